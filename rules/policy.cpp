#include "rules/policy.hpp"
