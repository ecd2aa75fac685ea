// A convolution and its two gradients by oneDNN, as handlers of XLA's foreign function interface.
//
// Images and output gradients are NHWC, kernels HWIO, all float32. A plan (the primitive, and the
// reorder of the kernel into the layout it asks for) is made once for each shape and kept. One
// compiled library serves every thread: plans are read-only, each call brings its own memory.

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <dnnl.hpp>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using dnnl::memory;
using Images = ffi::BufferR4<ffi::F32>;
using Result = ffi::Result<Images>;

namespace {

enum class Pass { kForward, kInput, kKernel };

// Everything that a plan depends on; sizes as in the buffers.
struct Shape {
  int64_t batch, height, width, in, kernel_height, kernel_width, out, out_height, out_width;
  int64_t stride, top, left, threads;

  auto key() const {
    return std::tie(batch, height, width, in, kernel_height, kernel_width, out, out_height,
                    out_width, stride, top, left, threads);
  }
  bool operator<(const Shape& other) const { return key() < other.key(); }

  // Zero padding after the last row or column that the output needs.
  memory::dims After() const {
    return {std::max<int64_t>(0, (out_height - 1) * stride + kernel_height - height - top),
            std::max<int64_t>(0, (out_width - 1) * stride + kernel_width - width - left)};
  }
  // Whether this is a convolution whose every output meets the images, and not a strided one of one
  // pixel: with fewer than 8 channels oneDNN 2.6's AVX2 kernel gradient writes beyond its memory.
  bool Makes() const {
    constexpr int64_t most = int64_t{1} << 24;
    if (kernel_height == 1 && kernel_width == 1 && stride > 1) return false;
    for (const int64_t size : {batch, height, width, in, kernel_height, kernel_width, out,
                               out_height, out_width, stride, threads}) {
      if (size < 1 || size > most) return false;
    }
    const auto after = After();
    return top >= 0 && top < kernel_height && after[0] < kernel_height && left >= 0 &&
           left < kernel_width && after[1] < kernel_width;
  }
  memory::dims Source() const { return {batch, in, height, width}; }
  memory::dims Weights() const { return {out, in, kernel_height, kernel_width}; }
  memory::dims Target() const { return {batch, out, out_height, out_width}; }
};

const dnnl::engine& Cpu() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

memory::desc Dense(const memory::dims& dims, memory::format_tag tag) {
  return {dims, memory::data_type::f32, tag};
}

// Memory of a thread that grows to what its largest call needs, aligned to a cache line.
class Workspace {
 public:
  void* Get(size_t bytes) {
    if (bytes > size_ || data_ == nullptr) {
      std::free(data_);
      size_ = (bytes / 64 + 1) * 64;
      data_ = std::aligned_alloc(64, size_);
      if (data_ == nullptr) {
        size_ = 0;
        throw std::bad_alloc();
      }
    }
    return data_;
  }
  ~Workspace() { std::free(data_); }

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
};

struct Plan {
  dnnl::primitive convolution, reorder;  // reorder is empty where HWIO is what it asks for
  memory::desc source, weights, target, scratch, user;  // user: HWIO
};

Plan Finished(const dnnl::primitive& convolution, const memory::desc& source,
              const memory::desc& weights, const memory::desc& target,
              const memory::desc& scratch, const Shape& shape, Pass pass) {
  const auto user = Dense(shape.Weights(), memory::format_tag::hwio);
  Plan plan{convolution, {}, source, weights, target, scratch, user};
  if (weights != user) {
    const bool out = pass == Pass::kKernel;
    plan.reorder = dnnl::reorder(dnnl::reorder::primitive_desc(
        Cpu(), out ? weights : user, Cpu(), out ? user : weights));
  }
  return plan;
}

// oneDNN 3 makes primitive descriptors directly, oneDNN 2 from an operation descriptor.
template <class Primitive, class... Hint>
typename Primitive::primitive_desc Describe(const Shape& shape, const Hint&... hint) {
  const auto source = Dense(shape.Source(), memory::format_tag::nhwc);
  const auto weights = Dense(shape.Weights(), memory::format_tag::any);
  const auto target = Dense(shape.Target(), memory::format_tag::nhwc);
  const memory::dims strides{shape.stride, shape.stride}, before{shape.top, shape.left};
  const auto direct = dnnl::algorithm::convolution_direct;
  dnnl::primitive_attr own_scratch;
  own_scratch.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  constexpr bool forward = std::is_same_v<Primitive, dnnl::convolution_forward>;
#if DNNL_VERSION_MAJOR >= 3
  if constexpr (forward) {
    return {Cpu(), dnnl::prop_kind::forward_training, direct, source, weights, target,
            strides, before, shape.After(), own_scratch};
  } else {
    return {Cpu(), direct, source, weights, target, strides, before, shape.After(), hint...,
            own_scratch};
  }
#else
  if constexpr (forward) {
    return {{dnnl::prop_kind::forward_training, direct, source, weights, target, strides, before,
             shape.After()},
            own_scratch, Cpu()};
  } else {
    return {{direct, source, weights, target, strides, before, shape.After()}, own_scratch, Cpu(),
            hint...};
  }
#endif
}

Plan Make(const Shape& shape, Pass pass) {
  omp_set_num_threads(static_cast<int>(shape.threads));
  const auto forward = Describe<dnnl::convolution_forward>(shape);
  if (pass == Pass::kForward) {
    return Finished(dnnl::convolution_forward(forward), forward.src_desc(),
                    forward.weights_desc(), forward.dst_desc(), forward.scratchpad_desc(), shape,
                    pass);
  }
  if (pass == Pass::kInput) {
    const auto input = Describe<dnnl::convolution_backward_data>(shape, forward);
    return Finished(dnnl::convolution_backward_data(input), input.diff_src_desc(),
                    input.weights_desc(), input.diff_dst_desc(), input.scratchpad_desc(), shape,
                    pass);
  }
  const auto kernel = Describe<dnnl::convolution_backward_weights>(shape, forward);
  return Finished(dnnl::convolution_backward_weights(kernel), kernel.src_desc(),
                  kernel.diff_weights_desc(), kernel.diff_dst_desc(), kernel.scratchpad_desc(),
                  shape, pass);
}

// Plans are never dropped: a process meets a few dozen shapes.
const Plan& Planned(const Shape& shape, Pass pass) {
  static std::mutex mutex;
  static std::map<std::pair<Shape, Pass>, std::unique_ptr<Plan>> plans;
  const std::lock_guard<std::mutex> lock(mutex);
  auto& plan = plans[{shape, pass}];
  if (plan == nullptr) plan = std::make_unique<Plan>(Make(shape, pass));
  return *plan;
}

void Execute(const Plan& plan, Pass pass, float* source, float* weights, float* target) {
  static thread_local Workspace scratch, packed;
  dnnl::stream stream(Cpu());
  const bool ordered = !plan.reorder;
  void* kernel = ordered ? weights : packed.Get(plan.weights.get_size());
  memory source_memory(plan.source, Cpu(), source), target_memory(plan.target, Cpu(), target);
  memory weights_memory(plan.weights, Cpu(), kernel), user_memory(plan.user, Cpu(), weights);
  const memory scratch_memory(plan.scratch, Cpu(), scratch.Get(plan.scratch.get_size()));
  std::unordered_map<int, memory> arguments{{DNNL_ARG_SCRATCHPAD, scratch_memory}};
  if (pass == Pass::kForward) {
    arguments.insert({{DNNL_ARG_SRC, source_memory},
                      {DNNL_ARG_WEIGHTS, weights_memory},
                      {DNNL_ARG_DST, target_memory}});
  } else if (pass == Pass::kInput) {
    arguments.insert({{DNNL_ARG_DIFF_SRC, source_memory},
                      {DNNL_ARG_WEIGHTS, weights_memory},
                      {DNNL_ARG_DIFF_DST, target_memory}});
  } else {
    arguments.insert({{DNNL_ARG_SRC, source_memory},
                      {DNNL_ARG_DIFF_WEIGHTS, weights_memory},
                      {DNNL_ARG_DIFF_DST, target_memory}});
  }
  const auto reorder = [&](memory& from, memory& to) {
    if (!ordered) plan.reorder.execute(stream, {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}});
  };
  if (pass != Pass::kKernel) reorder(user_memory, weights_memory);
  plan.convolution.execute(stream, arguments);
  if (pass == Pass::kKernel) reorder(weights_memory, user_memory);
  stream.wait();
}

ffi::Error Run(Pass pass, Images source, Images weights, Images target, int64_t stride,
               int64_t top, int64_t left, int64_t threads) {
  const auto x = source.dimensions(), w = weights.dimensions(), y = target.dimensions();
  const Shape shape{x[0], x[1], x[2], x[3], w[0], w[1], w[3], y[1], y[2],
                    stride, top, left, threads};
  if (y[0] != x[0] || w[2] != x[3] || y[3] != w[3] || !shape.Makes()) {
    return ffi::Error::InvalidArgument("the sizes of images, kernel and output do not agree");
  }
  try {
    omp_set_num_threads(static_cast<int>(threads));
    Execute(Planned(shape, pass), pass, source.typed_data(), weights.typed_data(),
            target.typed_data());
  } catch (const dnnl::error& error) {
    return ffi::Error::InvalidArgument(std::string("oneDNN: ") + error.what());
  } catch (const std::exception& error) {
    return ffi::Error::Internal(error.what());
  }
  return ffi::Error::Success();
}

ffi::Error Forward(Images images, Images kernel, Result output, int64_t stride, int64_t top,
                   int64_t left, int64_t threads) {
  return Run(Pass::kForward, images, kernel, *output, stride, top, left, threads);
}

ffi::Error InputGradient(Images gradient, Images kernel, Result images, int64_t stride,
                         int64_t top, int64_t left, int64_t threads) {
  return Run(Pass::kInput, *images, kernel, gradient, stride, top, left, threads);
}

ffi::Error KernelGradient(Images images, Images gradient, Result kernel, int64_t stride,
                          int64_t top, int64_t left, int64_t threads) {
  return Run(Pass::kKernel, images, *kernel, gradient, stride, top, left, threads);
}

auto Binding() {
  return ffi::Ffi::Bind()
      .Arg<Images>()
      .Arg<Images>()
      .Ret<Images>()
      .Attr<int64_t>("stride")
      .Attr<int64_t>("top")
      .Attr<int64_t>("left")
      .Attr<int64_t>("threads");
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(fishjax_convolution, Forward, Binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(fishjax_input_gradient, InputGradient, Binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(fishjax_kernel_gradient, KernelGradient, Binding());
