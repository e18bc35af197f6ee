#include "launcher/trainer/same_inputs.hpp"

#include "launcher/bootstrap/together.hpp"
#include "runtime/base/error.hpp"
#include "runtime/io/digest.hpp"

namespace plasmid {
namespace {

bool agree(Communicator& ranks, std::uint64_t value) {
  const std::uint64_t largest = ranks.agree_max(value), smallest = ~ranks.agree_max(~value);
  return largest == smallest;
}

bool agree(Communicator& ranks, const std::string& text) {
  return agree(ranks, std::stoull(digest_of(text).xxh3_128.substr(0, 16), nullptr, 16));
}

}  // namespace

void require_same_on_all_ranks(Communicator& ranks, const FieldValues& values) {
  std::string all;
  for (const auto& [field, value] : values) all += field + '\0' + value + '\0';
  if (agree(ranks, all)) return;
  std::string differs = "the job";
  if (agree(ranks, values.size()))
    for (const auto& [field, value] : values)
      if (!agree(ranks, value)) {
        differs = field;
        break;
      }
  throw Refusal{static_cast<int>(ErrorCode::data),
                ranks.rank() == 0 ? differs + ": differs between the ranks; each must find the same files" : ""};
}

}  // namespace plasmid
