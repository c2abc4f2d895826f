#include "smtp_proxy/core/sasl.hpp"
