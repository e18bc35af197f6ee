#include "parallel/dp/gradients.hpp"

#include <algorithm>
#include <array>

#include "runtime/base/recycled.hpp"

namespace plasmid {

RecycledVector<GradientBucket> gradient_buckets(std::span<const ParameterPtr> parameters, Index bucket_bytes) {
  const Index limit = bucket_bytes / size_of(DType::f32);
  PLASMID_CHECK(limit >= 1) << bucket_bytes << " bytes";
  RecycledVector<ParameterPtr> ordered(parameters.begin(), parameters.end());
  std::ranges::sort(ordered, {}, [](const ParameterPtr& parameter) { return parameter->range.begin; });
  RecycledVector<GradientBucket> buckets;
  const Parameter* before = nullptr;
  for (const ParameterPtr& parameter : ordered) {
    const unsigned axes = parameter->partial_over;
    PLASMID_CHECK(!before || before->range.end <= parameter->range.begin)
        << parameter->name << " overlaps " << before->name;
    const bool joins = before && before->partial_over == axes;
    before = parameter.get();
    if (axes == 0) continue;
    Range rest = parameter->range;
    if (joins) {  // fill the last bucket first, from where it ended
      GradientBucket& last = buckets.back();
      last.range.end = std::min(rest.end, last.range.begin + limit);
      rest.begin = std::max(rest.begin, last.range.end);
    }
    for (; rest.begin < rest.end; rest.begin = buckets.back().range.end)
      buckets.push_back({{rest.begin, std::min(rest.end, rest.begin + limit)}, axes});
  }
  return buckets;
}

void reduce_gradients(std::span<float> flat, std::span<const ParameterPtr> parameters, ProcessMesh& mesh,
                      Stream& stream, Index bucket_bytes) {
  std::array<Pending, 2> in_flight;
  std::size_t next = 0;
  for (const auto& [range, axes] : gradient_buckets(parameters, bucket_bytes)) {
    PLASMID_CHECK(range.end <= std::ssize(flat)) << "[" << range.begin << ", " << range.end << ") of " << flat.size();
    Communicator& group = mesh.along(axes);
    if (group.size() == 1) continue;
    const auto part = flat.subspan(static_cast<std::size_t>(range.begin), static_cast<std::size_t>(range.size()));
    in_flight[next].wait(stream);
    in_flight[next] = group.all_reduce(view_of(part), Reduce::sum, stream);
    next = 1 - next;
  }
  for (Pending& pending : in_flight) pending.wait(stream);
}

LossSums reduce_sums(LossSums sums, ProcessMesh& mesh, Stream& stream) {
  Communicator& group = mesh.along(axes::tokens);
  Pending loss = group.all_reduce(view_of(std::span(&sums.loss, 1)), Reduce::sum, stream);
  Pending tokens = group.all_reduce(view_of(std::span(&sums.tokens, 1)), Reduce::sum, stream);
  loss.wait(stream);
  tokens.wait(stream);
  return sums;
}

}  // namespace plasmid
