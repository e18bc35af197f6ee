#include "attention/model/family.hpp"
#include "runtime/base/error.hpp"

namespace plasmid {
namespace {

[[noreturn]] void refuse(const std::string& what) { throw Error(ErrorCode::config, what); }

void require_extent(const char* field, Index value) {
  if (value == 0) refuse(std::string("model.") + field + " is not given");
  if (value < 0 || value > INT32_MAX)
    refuse(std::string("model.") + field + " = " + std::to_string(value) + " is not in [1, 2^31)");
}

void require_divides(const char* part_name, Index part, const char* whole_name, Index whole) {
  if (whole % part == 0) return;
  refuse(std::string("model.") + part_name + " = " + std::to_string(part) + " does not divide model." + whole_name +
         " = " + std::to_string(whole) + ": remainder " + std::to_string(whole % part));
}

}  // namespace

ModelShape complete(ModelShape shape) {
  require_extent("layers", shape.layers);
  require_extent("width", shape.width);
  require_extent("heads", shape.heads);
  require_extent("vocabulary", shape.vocabulary);
  require_extent("positions", shape.positions);
  if (shape.kv_heads == 0) shape.kv_heads = shape.heads;
  require_extent("kv_heads", shape.kv_heads);
  require_divides("heads", shape.heads, "width", shape.width);
  require_divides("kv_heads", shape.kv_heads, "heads", shape.heads);
  definition_of(shape.family).complete(shape);
  require_extent("mlp_width", shape.mlp_width);
  if (!(shape.norm_epsilon > 0) || !(shape.norm_epsilon < 1))
    refuse("model.norm_epsilon = " + std::to_string(shape.norm_epsilon) + " is not in (0, 1)");
  return shape;
}

}  // namespace plasmid
