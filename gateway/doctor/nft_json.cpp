#include "gateway/doctor/nft_json.hpp"

#include <boost/json.hpp>

#include <limits>

namespace postern::gateway::doctor {

namespace json = boost::json;

const json::value* at(const json::value& value, std::string_view name) {
  const json::object* object = value.if_object();
  return object == nullptr ? nullptr : object->if_contains(name);
}

std::string text_of(const json::value* value) {
  if (value == nullptr) {
    return {};
  }
  if (const auto* text = value->if_string()) {
    return {text->begin(), text->end()};
  }
  return json::serialize(*value);
}

std::string text_at(const json::value& value, std::string_view name) {
  return text_of(at(value, name));
}

std::optional<std::uint32_t> number_of(const json::value& value) {
  json::error_code error;
  const auto number = value.to_number<std::int64_t>(error);
  if (error || number < 0 || number > std::numeric_limits<std::uint32_t>::max()) {
    return std::nullopt;
  }
  return static_cast<std::uint32_t>(number);
}

}  // namespace postern::gateway::doctor
