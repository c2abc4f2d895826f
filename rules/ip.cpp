#include "rules/ip.hpp"
