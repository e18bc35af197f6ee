#pragma once
#include <numeric>
#include <span>

#include "parallel/comm/communicator.hpp"

// What every back end checks of a call before it touches memory: the borders stated in communicator.hpp.
namespace plasmid::contract {

inline void travels(ConstView view) { PLASMID_CHECK(view.contiguous()) << "shape " << to_string(view.shape); }

inline void all_reduce(ConstView view) {
  travels(view);
  const DType type = view.dtype;
  PLASMID_CHECK(type == DType::f32 || type == DType::f64 || type == DType::i32 || type == DType::i64)
      << name_of(type) << " does not reduce";
}

// whole: `parts` parts of part's count.
inline void parts_of(ConstView part, ConstView whole, int parts) {
  travels(part);
  travels(whole);
  PLASMID_CHECK(part.dtype == whole.dtype && part.count() * parts == whole.count())
      << parts << " parts of " << part.count() << " " << name_of(part.dtype) << " against " << whole.count() << " "
      << name_of(whole.dtype);
}

inline void all_to_all_v(ConstView in, std::span<const Index> send, ConstView out, std::span<const Index> recv,
                         int size) {
  travels(in);
  travels(out);
  PLASMID_CHECK(in.dtype == out.dtype && std::ssize(send) == size && std::ssize(recv) == size);
  PLASMID_CHECK(std::accumulate(send.begin(), send.end(), Index{0}) <= in.count());
  PLASMID_CHECK(std::accumulate(recv.begin(), recv.end(), Index{0}) <= out.count());
}

inline constexpr int kChannels = 16;

inline void exchange(std::span<const Transfer> transfers, int size) {
  for (const Transfer& transfer : transfers) {
    PLASMID_CHECK(0 <= transfer.channel && transfer.channel < kChannels) << "channel " << transfer.channel;
    PLASMID_CHECK(-1 <= transfer.to && transfer.to < size && -1 <= transfer.from && transfer.from < size)
        << "to " << transfer.to << ", from " << transfer.from << " of " << size;
    if (transfer.to >= 0) travels(transfer.send);
    if (transfer.from >= 0) travels(transfer.recv);
  }
}

}  // namespace plasmid::contract
