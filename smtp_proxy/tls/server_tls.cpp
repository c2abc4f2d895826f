#include "smtp_proxy/tls/server_tls.hpp"
