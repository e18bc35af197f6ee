#include "runtime/ops/embedding.hpp"

namespace plasmid::ops {

void embedding_forward(ConstView index, ConstView table, Write write, View y, Stream&) {
  ref::embedding_forward(index, table, write, y);
}
void embedding_backward(ConstView index, ConstView dy, View dtable, Stream&) {
  ref::embedding_backward(index, dy, dtable);
}

}  // namespace plasmid::ops
