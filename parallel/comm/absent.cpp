#include "parallel/comm/absent.hpp"

#include <cstdlib>

#include "runtime/base/check.hpp"

namespace plasmid {
namespace {

[[noreturn]] void refuse(const char* operation) {
  PLASMID_CHECK(false) << operation << " over ranks that are not there";
  std::abort();
}

class AbsentCommunicator final : public Communicator {
 public:
  explicit AbsentCommunicator(int size) : size_(size) {}
  int rank() const override { return 0; }
  int size() const override { return size_; }
  std::unique_ptr<Communicator> split(int, int) override { refuse("split"); }
  Pending all_reduce(View, Reduce, Stream&) override { refuse("all_reduce"); }
  Pending all_gather(ConstView, View, Stream&) override { refuse("all_gather"); }
  Pending reduce_scatter(ConstView, View, Reduce, Stream&) override { refuse("reduce_scatter"); }
  Pending broadcast(View, int, Stream&) override { refuse("broadcast"); }
  Pending all_to_all_v(ConstView, std::span<const Index>, View, std::span<const Index>, Stream&) override {
    refuse("all_to_all_v");
  }
  Pending exchange(std::span<const Transfer>, Stream&) override { refuse("exchange"); }
  std::uint64_t agree_max(std::uint64_t) override { refuse("agree_max"); }
  void barrier() override { refuse("barrier"); }
  void poll() noexcept override {}
  void abort() noexcept override {}

 private:
  int size_;
};

}  // namespace

std::unique_ptr<Communicator> make_absent_communicator(int size) { return std::make_unique<AbsentCommunicator>(size); }

}  // namespace plasmid
