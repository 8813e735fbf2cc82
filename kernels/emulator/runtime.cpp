// Runs one block at a time on the calling thread: a fiber per CUDA thread, scheduled by warps in
// an order that a seed decides and that is meant to be unkind.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "emulator.h"
#include "fiber.h"

namespace emulator {

__thread Block block;
__thread unsigned thread_index;

namespace {

constexpr unsigned MAX_THREADS = 1024;
constexpr unsigned BARRIERS = 16;
constexpr size_t STACK_BYTES = 128 << 10;
constexpr size_t GUARD_BYTES = 1024;
constexpr unsigned char GUARD = 0xa5;
constexpr unsigned char POISON = 0xff;  // NaN in every floating-point format

enum class State : unsigned char { ready, at_barrier, at_collective, done };

struct Copy {
  void* target;
  const void* source;
  unsigned bytes, valid;
};

struct Thread {
  void* stack_pointer;
  State state;
  unsigned barrier, site;
  void* argument;
  std::vector<std::vector<Copy>> groups;  // the last one is still open
};

struct Barrier {
  unsigned arrived, expected, site;
};

struct Warp {
  unsigned mask, arrived, site;
  Collective compute;
};

struct Machine {
  std::unique_ptr<unsigned char[]> stacks{new unsigned char[STACK_BYTES * MAX_THREADS]};
  std::vector<Thread> threads{MAX_THREADS};
  Barrier barriers[BARRIERS];
  Warp warps[MAX_THREADS / 32];
  std::vector<unsigned char> shared;
  void* scheduler;
  Body body;
  const void* arguments;
  uint64_t random;
  unsigned alive;
  unsigned stretch;
  char message[512];
  bool failed;

  Thread& current() { return threads[thread_index]; }
  uint64_t next_random() {
    random = random * 6364136223846793005u + 1442695040888963407u;
    return random >> 33;
  }
};

thread_local std::unique_ptr<Machine> machine;

void back_to_scheduler() {
  ndconv_fiber_switch(&machine->current().stack_pointer, machine->scheduler);
}

void release_barriers() {
  for (unsigned id = 0; id < BARRIERS; ++id) {
    Barrier& b = machine->barriers[id];
    unsigned expected = b.expected ? b.expected : machine->alive;
    if (b.arrived == 0 || b.arrived < expected) continue;
    b.arrived = 0;
    for (unsigned t = 0; t < block.threads; ++t) {
      Thread& thread = machine->threads[t];
      if (thread.state == State::at_barrier && thread.barrier == id) thread.state = State::ready;
    }
  }
}

void fiber_main() {
  machine->body(machine->arguments);
  Thread& thread = machine->current();
  for (auto& group : thread.groups)
    if (!group.empty()) fail("the thread ended with asynchronous copies that nobody waited for");
  thread.state = State::done;
  machine->alive -= 1;
  release_barriers();
  back_to_scheduler();
  std::abort();  // a finished fiber is never resumed
}

void perform(const Copy& copy) {
  std::memcpy(copy.target, copy.source, copy.valid);
  std::memset(static_cast<char*>(copy.target) + copy.valid, 0, copy.bytes - copy.valid);
}

// Nobody can run: says where everybody stands, once per distinct place.
void report_deadlock() {
  char* out = machine->message;
  size_t room = sizeof(machine->message);
  int used = std::snprintf(out, room, "deadlock:");
  for (unsigned t = 0; t < block.threads;) {
    const Thread& a = machine->threads[t];
    unsigned last = t;
    auto same = [&](const Thread& b) {
      return b.state == a.state && (a.state == State::done ||
                                    (b.site == a.site && b.barrier == a.barrier));
    };
    while (last + 1 < block.threads && same(machine->threads[last + 1])) ++last;
    const char* where = a.state == State::done         ? "ended"
                        : a.state == State::at_barrier ? "wait at a block barrier"
                                                       : "wait for their warp";
    if (used > 0 && static_cast<size_t>(used) + 1 < room) {
      out += used, room -= static_cast<size_t>(used);
      used = a.state == State::done
                 ? std::snprintf(out, room, " threads %u-%u %s;", t, last, where)
                 : std::snprintf(out, room, " threads %u-%u %s, line %u;", t, last, where, a.site);
    }
    t = last + 1;
  }
  machine->failed = true;
}

void run_lane(unsigned lane) {
  thread_index = lane;
  ndconv_fiber_switch(&machine->scheduler, machine->threads[lane].stack_pointer);
}

// A random warp runs a random stretch, its lanes in a random order, until nobody is left.
void schedule() {
  Machine& m = *machine;
  unsigned warps = (block.threads + 31) / 32;
  std::vector<unsigned> candidates;
  while (m.alive > 0 && !m.failed) {
    candidates.clear();
    for (unsigned t = 0; t < block.threads; ++t)
      if (m.threads[t].state == State::ready &&
          (candidates.empty() || candidates.back() != t / 32))
        candidates.push_back(t / 32);
    if (candidates.empty()) return report_deadlock();
    unsigned warp = candidates[m.next_random() % candidates.size()];
    // mostly long stretches: they let one warp run far ahead of the others
    m.stretch = m.next_random() % 4 ? 1u << (m.next_random() % 16) : 1;
    bool ran = true;
    while (ran && m.stretch > 0 && !m.failed) {
      ran = false;
      unsigned first = static_cast<unsigned>(m.next_random() % 32);
      for (unsigned i = 0; i < 32 && !m.failed; ++i) {
        unsigned lane = warp * 32 + (first + i) % 32;
        if (lane >= block.threads || m.threads[lane].state != State::ready) continue;
        run_lane(lane);
        ran = true;
      }
      m.stretch -= 1;
    }
    (void)warps;
  }
}

bool guards_intact() {
  auto intact = [](const unsigned char* p) {
    return std::all_of(p, p + GUARD_BYTES, [](unsigned char c) { return c == GUARD; });
  };
  return intact(block.shared - GUARD_BYTES) && intact(block.shared + block.shared_bytes);
}

Entry*& entries() {
  static Entry* head = nullptr;
  return head;
}

}  // namespace

void fail(const char* what, long long detail, long long limit) {
  Machine& m = *machine;
  if (!m.failed) {
    int used = std::snprintf(m.message, sizeof(m.message), "thread %u: ", thread_index);
    std::snprintf(m.message + used, sizeof(m.message) - static_cast<size_t>(used), what, detail,
                  limit);
  }
  m.failed = true;
  back_to_scheduler();
  std::abort();  // the scheduler has given this block up
}

void yield() {
  if (machine->next_random() % 4 == 0) back_to_scheduler();
}

void barrier(unsigned id, unsigned threads, unsigned site, bool wait) {
  Barrier& b = machine->barriers[id];
  Thread& me = machine->current();
  if (id >= BARRIERS) fail("there is no barrier %lld", id);
  if (threads % 32) fail("a barrier for %lld threads, which is no whole number of warps", threads);
  if (b.arrived > 0 && b.expected != threads)
    fail("barrier entered for %lld threads while others entered it for %lld", threads, b.expected);
  // `__syncthreads` in a branch that some threads do not take is undefined, whatever it counts to
  if (b.arrived > 0 && threads == 0 && b.site != site)
    fail("__syncthreads at line %lld while others are at the one in line %lld", site, b.site);
  b.expected = threads;
  b.site = site;
  b.arrived += 1;
  if (wait) {
    me.state = State::at_barrier;
    me.barrier = id;
    me.site = site;
  }
  release_barriers();
  if (wait) back_to_scheduler();
}

void collective(unsigned mask, Collective compute, void* mine, unsigned site) {
  Warp& warp = machine->warps[thread_index / 32];
  unsigned bit = 1u << (thread_index % 32);
  unsigned there = block.threads - thread_index / 32 * 32;
  if (there < 32) mask &= (1u << there) - 1;
  if (!(mask & bit)) fail("a lane runs a warp collective whose mask leaves it out");
  if (warp.arrived && warp.site != site)
    fail("lanes of one warp are at different collectives: lines %lld and %lld", site, warp.site);
  if (warp.arrived && warp.mask != mask)
    fail("lanes of one warp name different masks: %llx and %llx", mask, warp.mask);
  Thread& me = machine->current();
  me.state = State::at_collective;
  me.site = site;
  me.argument = mine;
  warp.mask = mask;
  warp.site = site;
  warp.arrived |= bit;
  if (warp.arrived == mask) {
    void* lanes[32] = {};
    unsigned base = thread_index / 32 * 32;
    for (unsigned i = 0; i < 32; ++i)
      if (mask >> i & 1) lanes[i] = machine->threads[base + i].argument;
    compute(lanes, mask);
    warp.arrived = 0;
    for (unsigned i = 0; i < 32; ++i)
      if (mask >> i & 1) machine->threads[base + i].state = State::ready;
  }
  back_to_scheduler();
}

void copy_async(void* target, const void* source, unsigned bytes, unsigned valid) {
  check_shared(target, bytes, bytes);
  if (reinterpret_cast<uintptr_t>(source) % bytes) fail("misaligned source of a %lld byte copy", bytes);
  Copy copy{target, source, bytes, valid};
  Thread& me = machine->current();
  if (me.groups.empty()) me.groups.emplace_back();
  if (block.late_copies)
    std::memset(target, POISON, bytes);
  else
    perform(copy);
  me.groups.back().push_back(copy);
}

void copy_commit() {
  Thread& me = machine->current();
  if (me.groups.empty()) me.groups.emplace_back();
  me.groups.emplace_back();
}

void copy_wait(unsigned groups_left) {
  auto& groups = machine->current().groups;
  while (groups.size() > groups_left + 1) {
    if (block.late_copies)
      for (const Copy& copy : groups.front()) perform(copy);
    groups.erase(groups.begin());
  }
  yield();
}

Registrar::Registrar(const char* name, Body body, size_t argument_bytes, unsigned threads)
    : entry{name, body, argument_bytes, threads, entries()} {
  entries() = &entry;
}

}  // namespace emulator

using namespace emulator;

// The interface to Rust: mirrored in src/cuda/emulator.rs.
struct Job {
  const Entry* entry;
  const void* arguments;
  const Region* regions;
  uint64_t seed;
  unsigned region_count, threads, shared_bytes, late_copies;
  uint3_t grid;
};

extern "C" const Entry* ndconv_emulator_next(const Entry* entry) {
  return entry ? entry->next : entries();
}
extern "C" const char* ndconv_emulator_name(const Entry* entry) { return entry->name; }
extern "C" size_t ndconv_emulator_argument_bytes(const Entry* entry) {
  return entry->argument_bytes;
}
extern "C" unsigned ndconv_emulator_threads(const Entry* entry) { return entry->threads; }

// Runs one block; returns 0, or 1 with a message.
extern "C" int ndconv_emulator_run(const Job* job, uint64_t index, char* message, size_t capacity) {
  if (!machine) machine.reset(new Machine);
  Machine& m = *machine;
  m.shared.assign(GUARD_BYTES * 2 + job->shared_bytes + 128, GUARD);
  auto base = reinterpret_cast<uintptr_t>(m.shared.data()) + GUARD_BYTES;
  block.shared = reinterpret_cast<unsigned char*>((base + 127) & ~uintptr_t{127});
  std::memset(block.shared, POISON, job->shared_bytes);
  block.shared_bytes = job->shared_bytes;
  block.threads = job->threads;
  block.grid_size = job->grid;
  block.block_index.x = static_cast<unsigned>(index % job->grid.x);
  block.block_index.y = static_cast<unsigned>(index / job->grid.x % job->grid.y);
  block.block_index.z = static_cast<unsigned>(index / job->grid.x / job->grid.y);
  block.regions = job->regions;
  block.region_count = job->region_count;
  block.late_copies = job->late_copies != 0;
  m.body = job->entry->body;
  m.arguments = job->arguments;
  m.random = job->seed ^ (index * 0x9e3779b97f4a7c15u);
  m.next_random();
  m.alive = job->threads;
  m.failed = false;
  std::fill(std::begin(m.barriers), std::end(m.barriers), Barrier{});
  std::fill(std::begin(m.warps), std::end(m.warps), Warp{});
  for (unsigned t = 0; t < job->threads; ++t) {
    Thread& thread = m.threads[t];
    thread.state = State::ready;
    thread.groups.clear();
    thread.stack_pointer =
        fiber_prepare(m.stacks.get() + STACK_BYTES * t, STACK_BYTES, fiber_main);
  }
  schedule();
  if (!m.failed && !guards_intact()) {
    m.failed = true;
    std::snprintf(m.message, sizeof(m.message), "wrote past the end of shared memory");
  }
  if (!m.failed) return 0;
  std::snprintf(message, capacity, "block (%u, %u, %u), %s", block.block_index.x,
                block.block_index.y, block.block_index.z, m.message);
  return 1;
}
