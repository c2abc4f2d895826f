#include "smtp_proxy/tls/channel.hpp"
