// Where a decoder's time goes, phase by phase, as the first thread of the team sees it. It knows no work, only clocks.
#pragma once

#include <time.h>

#include <cstdint>

#include "team.h"

namespace quire {

// In the order of PHASES of quire_kernels/decoder/native.py.
enum Phase { EMBED, NORM, QKV, ROTATE, ATTENTION, OUTPUT, UP, ACTIVATION, DOWN, HEAD, WAITING, PHASES };

// Nanoseconds in all steps of this process, of any decoder; added to and read atomically.
extern int64_t spent[PHASES];

// Runs from its making on. Looking at it costs some 25 nanoseconds, a few hundred times in a step of milliseconds.
class Watch {
 public:
  [[gnu::always_inline]] explicit Watch(const Share& share) : share_(share), last_(share.index == 0 ? now() : 0) {}

  // What has passed since the last look was for this phase.
  [[gnu::always_inline]] void look(Phase phase) {
    if (share_.index != 0) return;
    const int64_t time = now();
    __atomic_fetch_add(&spent[phase], time - last_, __ATOMIC_RELAXED);
    last_ = time;
  }

  // The end of a phase of all threads.
  [[gnu::always_inline]] void meet(Phase phase) {
    look(phase);
    share_.meet();
    look(WAITING);
  }

 private:
  [[gnu::always_inline]] static int64_t now() {
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * int64_t{1000000000} + time.tv_nsec;
  }

  const Share& share_;
  int64_t last_;
};

}  // namespace quire
