#pragma once
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "runtime/base/error.hpp"

namespace plasmid {

// `body` throws an Error with this code, one line long, that holds each of the words.
template <class Body>
void expect_error(ErrorCode code, const std::vector<std::string>& words, Body&& body) {
  try {
    body();
    ADD_FAILURE() << "nothing was thrown; expected: " << (words.empty() ? "an error" : words.front());
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_EQ(error.code(), code) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    for (const std::string& word : words)
      EXPECT_NE(message.find(word), std::string::npos) << word << " in: " << message;
  }
}

}  // namespace plasmid
