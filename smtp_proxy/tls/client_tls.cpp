#include "smtp_proxy/tls/client_tls.hpp"
