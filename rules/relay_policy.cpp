#include "rules/relay_policy.hpp"
