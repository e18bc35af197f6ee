#pragma once
#include <concepts>
#include <memory>
#include <type_traits>
#include <utility>

namespace plasmid {

// Borrows something callable for the length of a call: an argument that costs no allocation. Made empty, it is false.
template <class Signature>
class FunctionRef;

template <class... Arguments>
class FunctionRef<void(Arguments...)> {
 public:
  FunctionRef() = default;
  template <class Body>
  requires std::invocable<const Body&, Arguments...> &&(!std::same_as<Body, FunctionRef>)FunctionRef(const Body& body)
      : body_(std::addressof(body)), call_([](const void* erased, Arguments... arguments) {
          (*static_cast<const Body*>(erased))(std::forward<Arguments>(arguments)...);
        }) {}
  void operator()(Arguments... arguments) const { call_(body_, std::forward<Arguments>(arguments)...); }
  explicit operator bool() const { return call_ != nullptr; }

 private:
  const void* body_ = nullptr;
  void (*call_)(const void*, Arguments...) = nullptr;
};

}  // namespace plasmid
