#include "rules/domain.hpp"
