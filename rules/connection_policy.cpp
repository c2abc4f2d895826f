#include "rules/connection_policy.hpp"
