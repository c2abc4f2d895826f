#include "rules/path.hpp"
