// The context switch: callee-saved registers go on the stack, the stack pointer changes hands.
#include "fiber.h"

#include <cstdint>
#include <cstring>

#define STRING_(x) #x
#define STRING(x) STRING_(x)
#define SYMBOL STRING(__USER_LABEL_PREFIX__) "ndconv_fiber_switch"

#if defined(__x86_64__)

// System V: rbx rbp r12-r15 are the callee's to keep.
asm(".text\n.p2align 4\n.globl " SYMBOL "\n" SYMBOL
    ":\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
    "  ret\n");
static constexpr size_t SAVED_WORDS = 6;  // below the return address
static constexpr size_t RETURN_WORD = 6;
static constexpr size_t FRAME_WORDS = 8;  // entry sees the stack as after a call: 8 mod 16

#elif defined(__aarch64__)

// AAPCS64: x19-x30 and the low halves of v8-v15 are the callee's to keep.
asm(".text\n.p2align 4\n.globl " SYMBOL "\n" SYMBOL
    ":\n"
    "  sub sp, sp, #160\n"
    "  stp x19, x20, [sp, #0]\n  stp x21, x22, [sp, #16]\n  stp x23, x24, [sp, #32]\n"
    "  stp x25, x26, [sp, #48]\n  stp x27, x28, [sp, #64]\n  stp x29, x30, [sp, #80]\n"
    "  stp d8, d9, [sp, #96]\n  stp d10, d11, [sp, #112]\n  stp d12, d13, [sp, #128]\n"
    "  stp d14, d15, [sp, #144]\n"
    "  mov x9, sp\n  str x9, [x0]\n  mov sp, x1\n"
    "  ldp x19, x20, [sp, #0]\n  ldp x21, x22, [sp, #16]\n  ldp x23, x24, [sp, #32]\n"
    "  ldp x25, x26, [sp, #48]\n  ldp x27, x28, [sp, #64]\n  ldp x29, x30, [sp, #80]\n"
    "  ldp d8, d9, [sp, #96]\n  ldp d10, d11, [sp, #112]\n  ldp d12, d13, [sp, #128]\n"
    "  ldp d14, d15, [sp, #144]\n"
    "  add sp, sp, #160\n  ret\n");
static constexpr size_t SAVED_WORDS = 20;
static constexpr size_t RETURN_WORD = 11;  // x30
static constexpr size_t FRAME_WORDS = 20;

#else
#error "the emulator has a context switch for x86-64 and aarch64 alone: build without it"
#endif

void* emulator::fiber_prepare(unsigned char* stack, size_t bytes, void (*entry)()) {
  auto top = reinterpret_cast<uintptr_t>(stack + bytes) & ~uintptr_t{15};
  auto frame = reinterpret_cast<void**>(top) - FRAME_WORDS;
  static_assert(SAVED_WORDS <= FRAME_WORDS && RETURN_WORD < FRAME_WORDS);
  std::memset(frame, 0, FRAME_WORDS * sizeof(void*));
  frame[RETURN_WORD] = reinterpret_cast<void*>(entry);
  return frame;
}
