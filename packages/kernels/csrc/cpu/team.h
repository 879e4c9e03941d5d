// The thread team: who computes, and how threads wait for one another. It knows no tensors.
#pragma once

#include <cstdint>

namespace quire {

class Team;

struct Range {
  int64_t begin, end;
};

// One thread's part of a job.
struct Share {
  int index;
  int count;
  Team* team;

  // Wait until every thread of the job has come here.
  void meet() const;

  // This thread's part of n items, cut at multiples of `grain`; parts differ by at most one grain.
  // Always in place: a copy of its own might be compiled for one instruction set and called by all.
  [[gnu::always_inline]] Range of(int64_t n, int64_t grain = 1) const {
    const int64_t grains = (n + grain - 1) / grain;
    const int64_t begin = grains * index / count * grain;
    const int64_t end = grains * (index + 1) / count * grain;
    return {begin < n ? begin : n, end < n ? end : n};
  }
};

// Run job(share) on every thread of the team, the caller's included, and return when all are done. A caller that finds
// the team at work for somebody else does the whole job alone.
void run(void (*job)(const Share&, void*), void* argument);

template <class Job>
void run(const Job& job) {
  run([](const Share& share, void* argument) { (*static_cast<const Job*>(argument))(share); },
      const_cast<void*>(static_cast<const void*>(&job)));
}

// The same on the calling thread alone, for work too small to share.
template <class Job>
void run_alone(const Job& job) {
  job(Share{0, 1, nullptr});
}

// Threads of the team, the caller's included, from now on; 0 asks for one per CPU that this process may use.
void set_threads(int count);
int threads();

}  // namespace quire
