#include "runtime/nn/whole_store.hpp"

#include <algorithm>
#include <array>
#include <set>

#include "runtime/base/philox.hpp"
#include "runtime/device/parallel_for.hpp"
#include "runtime/ops/elementwise.hpp"

namespace plasmid {
namespace {

constexpr Index kLineFloats = 16;

View part_of(const Buffer& flat, const Parameter& parameter) {
  PLASMID_CHECK(parameter.range.size() == parameter.local_shape().count()) << parameter.name << " is not in this store";
  const View part = flat.view().slice(0, parameter.range.begin, parameter.range.end);
  return View(part.data, {parameter.local_shape(), DType::f32}, part.device);
}

// Where the local part's element `i` lies in the whole tensor, row-major.
Index whole_index(const Parameter& parameter, Index i) {
  if (parameter.slices == 1) return i;
  Index inner = 1;  // elements of one step along the sliced dim
  for (int d = parameter.sliced_dim + 1; d < parameter.shape.rank; ++d) inner *= parameter.shape[d];
  const Index extent = parameter.local_shape()[parameter.sliced_dim], block = extent * inner;
  return i / block * block * parameter.slices + parameter.slice * block + i % block;
}

}  // namespace

WholeStore::WholeStore(Module& module, Arena& pool, Holds holds) {
  module.parameters([this](const ParameterPtr& parameter) {
    if (std::find(parameters_.begin(), parameters_.end(), parameter) != parameters_.end()) return;
    parameter->range = {size_, size_ + parameter->local_shape().count()};
    size_ = round_up(parameter->range.end, kLineFloats);
    parameters_.push_back(parameter);
  });
  weights_ = pool.take({{size_}}, "weights");
  Stream stream;
  ops::fill(weights_.view(), 0, stream);  // by the whole team: its threads touch first what they will update
  if (holds == Holds::weights) return;
  gradients_ = pool.take({{size_}}, "gradients");
  ops::fill(gradients_.view(), 0, stream);
}

Index WholeStore::floats(Module& module) {
  Index floats = 0;
  std::set<const Parameter*> seen;
  module.parameters([&](const ParameterPtr& parameter) {
    if (seen.insert(parameter.get()).second) floats += round_up(parameter->local_shape().count(), kLineFloats);
  });
  return floats;
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
    parallel_for(
        static_cast<Index>(values.size()), 1024, [&, mean = mean, deviation = deviation](Index begin, Index end) {
          std::uint64_t drawn = ~std::uint64_t{0};  // the pair at hand: that of elements 2 drawn and 2 drawn + 1
          std::array<double, 2> pair{};
          for (Index i = begin; i < end; ++i) {
            const auto element = static_cast<std::uint64_t>(whole_index(*parameter, i));
            if (element / 2 != drawn) {
              drawn = element / 2;
              const Philox::Block bits = Philox::draw(seed, name, drawn);
              pair = normal_pair(bits[0], bits[1]);
            }
            values[static_cast<std::size_t>(i)] = static_cast<float>(mean + deviation * pair[element % 2]);
          }
        });
  }
}

ConstView WholeStore::lease(const Parameter& parameter, Stream&) { return part_of(weights_, parameter); }
View WholeStore::gradient(const Parameter& parameter) { return part_of(gradients_, parameter); }
View WholeStore::weight(const Parameter& parameter) { return part_of(weights_, parameter); }

}  // namespace plasmid
