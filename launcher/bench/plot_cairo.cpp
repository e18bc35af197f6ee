#include <cairo-svg.h>
#include <cairo.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>

#include "launcher/bench/plot.hpp"
#include "runtime/base/check.hpp"
#include "runtime/base/error.hpp"

namespace plasmid::bench {
namespace {

constexpr double kWidth = 760, kHeight = 500;                        // points
constexpr double kLeft = 84, kRight = 170, kTop = 74, kBottom = 62;  // around the axes; lines are named on the right
constexpr double kPixelsAPoint = 2;                                  // of the PNG
constexpr double kInk[] = {0.13, 0.13, 0.15}, kPale[] = {0.86, 0.86, 0.88}, kMuted[] = {0.40, 0.41, 0.44};
// Told apart by eyes of any kind (Okabe, Ito 2008), and in grey.
constexpr double kColours[][3] = {{0.00, 0.45, 0.70}, {0.84, 0.37, 0.00}, {0.00, 0.62, 0.45}, {0.80, 0.47, 0.65}};

struct DestroySurface {
  void operator()(cairo_surface_t* surface) const { cairo_surface_destroy(surface); }
};
struct DestroyContext {
  void operator()(cairo_t* context) const { cairo_destroy(context); }
};
using Surface = std::unique_ptr<cairo_surface_t, DestroySurface>;

struct Axis {
  std::vector<double> marks;
  double from = 0, to = 0;  // on the paper
  double place(double value) const {
    return from + (to - from) * std::log(value / marks.front()) / std::log(marks.back() / marks.front());
  }
};

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, value >= 1e5 || value < 1e-3 ? "%.0e" : "%.6g", value);
  return text;
}

class Drawing {
 public:
  Drawing(const Plot& plot, cairo_surface_t* surface) : plot_(plot), cairo_(cairo_create(surface)) {
    double low_y = INFINITY, high_y = 0;
    for (const PlotLine& line : plot.lines)
      for (const PlotPoint& point : line.points) {
        PLASMID_CHECK(point.x > 0 && point.y > 0) << line.name << " at " << point.x << ", " << point.y;
        x_.marks.push_back(point.x);
        low_y = std::min(low_y, point.y), high_y = std::max(high_y, point.y);
      }
    PLASMID_CHECK(!x_.marks.empty()) << "a plot without points";
    std::ranges::sort(x_.marks);  // the axis is marked where there are points
    x_.marks.erase(std::ranges::unique(x_.marks).begin(), x_.marks.end());
    if (x_.marks.size() == 1) x_.marks.push_back(2 * x_.marks[0]);
    x_.from = kLeft + 14, x_.to = kWidth - kRight;
    y_.marks = axis_marks(low_y, high_y);
    y_.from = kHeight - kBottom, y_.to = kTop;
  }

  void draw() {
    colour({1, 1, 1});
    cairo_paint(cairo_.get());
    cairo_select_font_face(cairo_.get(), "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
    colour(kInk);
    text(kLeft, 28, plot_.title, 16, 0);
    colour(kMuted);
    text(kLeft, 48, plot_.subtitle, 12, 0);
    axes();
    for (std::size_t i = 0; i < plot_.lines.size(); ++i) line(plot_.lines[i], kColours[i % std::size(kColours)]);
    names();
  }

 private:
  void colour(const double (&rgb)[3]) { cairo_set_source_rgb(cairo_.get(), rgb[0], rgb[1], rgb[2]); }

  // `align`: 0 starts, 0.5 is centred, 1 ends at x.
  void text(double x, double y, const std::string& words, double size, double align) {
    cairo_set_font_size(cairo_.get(), size);
    cairo_text_extents_t extents;
    cairo_text_extents(cairo_.get(), words.c_str(), &extents);
    cairo_move_to(cairo_.get(), x - align * extents.x_advance, y);
    cairo_show_text(cairo_.get(), words.c_str());
  }

  void stroke(double x0, double y0, double x1, double y1) {
    cairo_move_to(cairo_.get(), x0, y0);
    cairo_line_to(cairo_.get(), x1, y1);
    cairo_stroke(cairo_.get());
  }

  void axes() {
    cairo_set_line_width(cairo_.get(), 1);
    for (const double mark : y_.marks) {
      colour(kPale);
      stroke(kLeft, y_.place(mark), kWidth - kRight + 14, y_.place(mark));
      colour(kMuted);
      text(kLeft - 8, y_.place(mark) + 4, number(mark), 12, 1);
    }
    double free_from = 0;  // marks closer than their words are left without
    for (const double mark : x_.marks) {
      colour(kMuted);
      stroke(x_.place(mark), kHeight - kBottom, x_.place(mark), kHeight - kBottom + 5);
      if (x_.place(mark) < free_from) continue;
      text(x_.place(mark), kHeight - kBottom + 20, number(mark), 12, 0.5);
      free_from = x_.place(mark) + 9.0 * static_cast<double>(number(mark).size() + 1);
    }
    colour(kInk);
    text((x_.from + x_.to) / 2, kHeight - 16, plot_.x_name, 13, 0.5);
    cairo_save(cairo_.get());
    cairo_translate(cairo_.get(), 22, (kTop + kHeight - kBottom) / 2);
    cairo_rotate(cairo_.get(), -std::acos(0.0));
    text(0, 0, plot_.y_name, 13, 0.5);
    cairo_restore(cairo_.get());
  }

  void line(const PlotLine& line, const double (&rgb)[3]) {
    const double dashes[] = {6, 5};
    colour(rgb);
    cairo_set_line_width(cairo_.get(), line.dashed ? 1.5 : 2.5);
    cairo_set_dash(cairo_.get(), dashes, line.dashed ? 2 : 0, 0);
    cairo_new_path(cairo_.get());  // text leaves a point behind
    for (const PlotPoint& point : line.points) cairo_line_to(cairo_.get(), x_.place(point.x), y_.place(point.y));
    cairo_stroke(cairo_.get());
    cairo_set_dash(cairo_.get(), dashes, 0, 0);
    for (const PlotPoint& point : line.points) {
      if (!line.dashed) {
        cairo_new_path(cairo_.get());
        cairo_arc(cairo_.get(), x_.place(point.x), y_.place(point.y), 4, 0, 4 * std::acos(0.0));
        cairo_fill(cairo_.get());
      }
      text(x_.place(point.x), y_.place(point.y) - 10, point.label, 11, 0.5);
    }
  }

  // Each at the height of its line's end, but no closer to another than a line of text.
  void names() {
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < plot_.lines.size(); ++i)
      if (!plot_.lines[i].points.empty()) order.push_back(i);
    const auto end = [&](std::size_t i) { return y_.place(plot_.lines[i].points.back().y); };
    std::ranges::sort(order, [&](std::size_t a, std::size_t b) { return end(a) < end(b); });
    double free_from = 0;
    for (const std::size_t i : order) {
      const double y = std::max(end(i), free_from);
      colour(kColours[i % std::size(kColours)]);
      text(kWidth - kRight + 20, y + 4, plot_.lines[i].name, 13, 0);
      free_from = y + 17;
    }
  }

  const Plot& plot_;
  std::unique_ptr<cairo_t, DestroyContext> cairo_;
  Axis x_, y_;
};

void require(cairo_status_t status, const std::filesystem::path& path) {
  if (status == CAIRO_STATUS_SUCCESS) return;
  throw Error(ErrorCode::io, path.string() + ": " + cairo_status_to_string(status));
}

}  // namespace

bool can_plot() { return true; }

void draw(const Plot& plot, const std::filesystem::path& svg, const std::filesystem::path& png) {
  const Surface vector(cairo_svg_surface_create(svg.c_str(), kWidth, kHeight));
  require(cairo_surface_status(vector.get()), svg);
  Drawing(plot, vector.get()).draw();
  cairo_surface_finish(vector.get());
  require(cairo_surface_status(vector.get()), svg);

  const Surface pixels(cairo_image_surface_create(CAIRO_FORMAT_RGB24, static_cast<int>(kWidth * kPixelsAPoint),
                                                  static_cast<int>(kHeight * kPixelsAPoint)));
  cairo_surface_set_device_scale(pixels.get(), kPixelsAPoint, kPixelsAPoint);
  Drawing(plot, pixels.get()).draw();
  require(cairo_surface_write_to_png(pixels.get(), png.c_str()), png);
}

}  // namespace plasmid::bench
