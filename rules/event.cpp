#include "rules/event.hpp"
