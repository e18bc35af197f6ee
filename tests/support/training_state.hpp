#pragma once
#include <string>
#include <vector>

#include "parallel/checkpoint/state.hpp"
#include "parallel/comm/communicator.hpp"
#include "tests/support/temporary_folder.hpp"

namespace plasmid::test {

// Parameters of odd sizes in a store with gaps, and numbers that name their place: a copy that lands elsewhere differs.
class SmallState {
 public:
  explicit SmallState(Range moments = {}) {
    add("wte.weight", {11, 7});
    add("h.0.bias", {3});
    add("h.0.weight", {40, 16});
    add("h.1.gain", {1});
    add("h.1.weight", {2, 3, 5});
    weights_.assign(static_cast<std::size_t>(size_), 0);
    held_ = moments.size() > 0 ? moments : Range{0, size_};
    first_.assign(static_cast<std::size_t>(held_.size()), 0);
    second_ = first_;
  }

  void fill(Index step) {
    for (const ParameterPtr& parameter : parameters_)
      for (Index i = parameter->range.begin; i < parameter->range.end; ++i) {
        const auto at = static_cast<std::size_t>(i);
        const auto value = static_cast<float>(i) + static_cast<float>(step) / 64;
        weights_[at] = value, first_[at] = -value, second_[at] = value + 10000;
      }
  }

  TrainingState state() { return {parameters_, weights_, held_, first_, second_}; }
  Index size() const { return size_; }
  const std::vector<float>& weights() const { return weights_; }
  const std::vector<float>& first() const { return first_; }
  const std::vector<float>& second() const { return second_; }
  std::vector<ParameterPtr>& parameters() { return parameters_; }

 private:
  void add(const std::string& name, const Shape& shape) {
    parameters_.push_back(make_parameter(name, shape, {}));
    parameters_.back()->range = {size_, size_ + shape.count()};
    size_ = round_up(parameters_.back()->range.end, 16);
  }

  std::vector<ParameterPtr> parameters_;
  Index size_ = 0;
  Range held_;
  std::vector<float> weights_, first_, second_;
};

// One folder for all ranks, made and removed by rank 0.
class SharedFolder {
 public:
  explicit SharedFolder(Communicator& ranks) : ranks_(ranks) {
    std::vector<std::uint8_t> name(1024);
    if (ranks.rank() == 0) {
      own_ = std::make_unique<TemporaryFolder>();
      const std::string text = own_->path().string();
      std::copy(text.begin(), text.end(), name.begin());
    }
    Stream stream;
    ranks.broadcast(view_of(std::span(name)), 0, stream).wait(stream);
    path_ = reinterpret_cast<const char*>(name.data());
  }
  SharedFolder(const SharedFolder&) = delete;
  SharedFolder& operator=(const SharedFolder&) = delete;
  ~SharedFolder() {
    if (!std::uncaught_exceptions()) ranks_.barrier();
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  Communicator& ranks_;
  std::unique_ptr<TemporaryFolder> own_;
  std::filesystem::path path_;
};

}  // namespace plasmid::test
