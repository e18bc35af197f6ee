#pragma once
#include <memory>
#include <vector>

namespace plasmid {

// Objects that are made once and used again: no more of them than were ever in use at once. For one thread.
template <class T>
class Pool {
 public:
  T& take() {
    if (idle_.empty()) {
      all_.emplace_back(new T);
      idle_.reserve(all_.size());  // so that give() allocates nothing
      return *all_.back();
    }
    T& object = *idle_.back();
    idle_.pop_back();
    return object;
  }
  void give(T& object) noexcept { idle_.push_back(&object); }

 private:
  std::vector<std::unique_ptr<T>> all_;
  std::vector<T*> idle_;
};

}  // namespace plasmid
