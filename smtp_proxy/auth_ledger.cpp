#include "smtp_proxy/auth_ledger.hpp"
