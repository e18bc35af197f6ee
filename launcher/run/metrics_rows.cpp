#include "launcher/run/metrics_rows.hpp"

#include "runtime/base/error.hpp"

namespace plasmid {

MetricsRows::MetricsRows(std::filesystem::path path) : path_(std::move(path)), lines_(path_) {}

std::string MetricsRows::append(const std::string& row) {
  kept_.push_back(row);
  return write_kept();
}

std::string MetricsRows::write_kept() {
  const bool failed_before = !problem_.empty();
  try {
    for (; !kept_.empty(); kept_.pop_front()) lines_.append(kept_.front());
  } catch (const Error& failure) {
    problem_ = failure.what();
    return failed_before ? "" : problem_ + "; rows are kept in memory and written when they can be";
  }
  problem_.clear();
  return failed_before ? path_.string() + ": the rows that were kept are written" : "";
}

std::string MetricsRows::sync() {
  std::string news = write_kept();
  try {
    lines_.sync();
  } catch (const Error& failure) {
    if (news.empty() && problem_.empty()) news = failure.what();
  }
  return news;
}

}  // namespace plasmid
