// Stack switching: a fiber is a saved stack pointer.
#pragma once

#include <cstddef>

namespace emulator {

// Prepares a stack so that the first switch to it calls `entry`, which must never return.
void* fiber_prepare(unsigned char* stack, size_t bytes, void (*entry)());

}  // namespace emulator

// Saves the running fiber's stack pointer in `*from` and continues `to`.
extern "C" void ndconv_fiber_switch(void** from, void* to);
