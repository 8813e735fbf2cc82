// Optimiser steps, on the master copy of a weight where there is one; a thread owns a weight.
#include "element.cuh"

namespace {

template <class T>
struct StepArgs {
  Global<T> weight, gradient;
  Global<Accumulator<T>> master;         // null: none
  Global<Accumulator<T>> first, second;  // velocity (sgd), or the moments (adam)
  int64_t length;
  double rate, decay;
  double momentum;                                           // sgd
  double beta1, beta2, correction1, correction2, epsilon;    // adam
  uint32_t nesterov, decoupled;
};
LAYOUT_SIZE(StepArgs<f32>, 120);
LAYOUT_FIELD(StepArgs<f32>, rate, 48);
LAYOUT_FIELD(StepArgs<f32>, nesterov, 112);

// The weight to start from: one that somebody else has written since the last step wins over its
// master copy.
template <class T>
DEVICE Accumulator<T> current(const StepArgs<T>& args, int64_t i) {
  Accumulator<T> weight = widen(args.weight.load(i));
  if (args.master.is_null()) return weight;
  Accumulator<T> master = args.master.load(i);
  return widen(narrow<T>(master)) == weight ? master : weight;
}

template <class T>
DEVICE void keep(const StepArgs<T>& args, int64_t i, Accumulator<T> weight) {
  if (!args.master.is_null()) args.master.store(i, weight);
  args.weight.store(i, narrow<T>(weight));
}

template <class T>
DEVICE void step_sgd(const StepArgs<T>& args) {
  using A = Accumulator<T>;
  const A rate = static_cast<A>(args.rate), decay = static_cast<A>(args.decay);
  const A momentum = static_cast<A>(args.momentum);
  for (int64_t i = global_thread(); i < args.length; i += global_threads()) {
    A w = current(args, i);
    A g = widen(args.gradient.load(i)) + decay * w;
    A v = momentum * args.first.load(i) + g;
    args.first.store(i, v);
    keep(args, i, w - rate * (args.nesterov ? g + momentum * v : v));
  }
}

template <class T>
DEVICE void step_adam(const StepArgs<T>& args) {
  using A = Accumulator<T>;
  const A rate = static_cast<A>(args.rate), decay = static_cast<A>(args.decay);
  const A beta1 = static_cast<A>(args.beta1), beta2 = static_cast<A>(args.beta2);
  const A correction1 = static_cast<A>(args.correction1);
  const A correction2 = static_cast<A>(args.correction2);
  const A epsilon = static_cast<A>(args.epsilon);
  for (int64_t i = global_thread(); i < args.length; i += global_threads()) {
    A w = current(args, i), g = widen(args.gradient.load(i));
    if (args.decoupled)
      w = w - rate * decay * w;
    else
      g = g + decay * w;
    A m = beta1 * args.first.load(i) + (A(1) - beta1) * g;
    A v = beta2 * args.second.load(i) + (A(1) - beta2) * g * g;
    args.first.store(i, m);
    args.second.store(i, v);
    keep(args, i, w - rate * (m / correction1) / (ptx::square_root(v / correction2) + epsilon));
  }
}

}  // namespace

KERNEL_EACH_ELEMENT(step_sgd, 256, StepArgs, step_sgd)
KERNEL_EACH_ELEMENT(step_adam, 256, StepArgs, step_adam)
