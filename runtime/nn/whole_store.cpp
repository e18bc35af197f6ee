#include "runtime/nn/whole_store.hpp"

#include <algorithm>

#include "runtime/base/philox.hpp"

namespace plasmid {
namespace {

constexpr Index kLineFloats = 16;

View part_of(const Buffer& flat, const Parameter& parameter) {
  PLASMID_CHECK(parameter.range.size() == parameter.shape.count()) << parameter.name << " is not in this store";
  const View part = flat.view().slice(0, parameter.range.begin, parameter.range.end);
  return View(part.data, {parameter.shape, DType::f32}, part.device);
}

}  // namespace

WholeStore::WholeStore(Module& module, Arena& pool) {
  module.parameters([this](const ParameterPtr& parameter) {
    if (std::find(parameters_.begin(), parameters_.end(), parameter) != parameters_.end()) return;
    parameter->range = {size_, size_ + parameter->shape.count()};
    size_ = round_up(parameter->range.end, kLineFloats);
    parameters_.push_back(parameter);
  });
  weights_ = pool.take({{size_}}, "weights");
  gradients_ = pool.take({{size_}}, "gradients");
  std::ranges::fill(weights(), 0.0f);
  std::ranges::fill(gradients(), 0.0f);
}

void WholeStore::initialize(std::uint64_t seed) {
  for (const ParameterPtr& parameter : parameters_) {
    const auto [mean, deviation] = parameter->initial;
    const std::span<float> values = weight(*parameter).flat<float>();
    if (deviation == 0) {
      std::ranges::fill(values, mean);
      continue;
    }
    const std::uint64_t name = name_key(parameter->name.c_str());
    for (std::size_t i = 0; i < values.size(); i += 4) {
      const Philox::Block bits = Philox::draw(seed, name, i / 4);
      const auto a = normal_pair(bits[0], bits[1]), b = normal_pair(bits[2], bits[3]);
      const double four[] = {a[0], a[1], b[0], b[1]};
      for (std::size_t j = 0; j < 4 && i + j < values.size(); ++j)
        values[i + j] = static_cast<float>(mean + deviation * four[j]);
    }
  }
}

ConstView WholeStore::lease(const Parameter& parameter, Stream&) { return part_of(weights_, parameter); }
View WholeStore::gradient(const Parameter& parameter) { return part_of(gradients_, parameter); }
View WholeStore::weight(const Parameter& parameter) { return part_of(weights_, parameter); }

}  // namespace plasmid
