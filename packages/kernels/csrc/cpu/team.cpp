#include "team.h"

#include <immintrin.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <new>

namespace quire {
namespace {

constexpr int MOST = 256;

// A thread that waits looks this often, with a pause in between, before it does anything dearer: some 20 microseconds.
// Long enough to bridge the gaps inside a step, short enough to leave the CPU to whoever else has work.
constexpr int LOOKS = 1 << 9;

void sleep_while(std::atomic<uint32_t>& word, uint32_t value) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
}

void wake_all(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

int allowed_cpus(int* cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 0;
  int count = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE && count < MOST; ++cpu)
    if (CPU_ISSET(cpu, &set)) cpus[count++] = cpu;
  return count;
}

}  // namespace

class Team {
 public:
  explicit Team(int wanted) {
    int cpus[MOST];
    const int allowed = allowed_cpus(cpus);
    count_ = wanted > 0 ? (wanted < MOST ? wanted : MOST) : (allowed > 0 ? allowed : 1);
    for (int index = 1; index < count_; ++index) {
      Seat& seat = seats_[index];
      seat = {this, index};
      if (pthread_create(&seat.thread, nullptr, &Team::serve, &seat) != 0) {
        count_ = index;  // the machine gives no more: fewer are enough
        break;
      }
      // One thread to a CPU, where they have all of them; the caller keeps to the one that is left by itself. Were there
      // more CPUs, another team might be pinned to the same ones.
      if (count_ == allowed) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(cpus[index], &set);
        pthread_setaffinity_np(seat.thread, sizeof set, &set);
      }
    }
  }

  ~Team() {
    job_ = nullptr;
    announce();
    for (int index = 1; index < count_; ++index) pthread_join(seats_[index].thread, nullptr);
  }

  int count() const { return count_; }

  void run(void (*job)(const Share&, void*), void* argument) {
    if (count_ == 1) return job(Share{0, 1, this}, argument);
    job_ = job;
    argument_ = argument;
    announce();
    job(Share{0, count_, this}, argument);
    meet();
  }

  void meet() {
    if (count_ == 1) return;
    const uint32_t round = round_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == count_) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.store(round + 1, std::memory_order_release);
      return;
    }
    for (int looks = 0; round_.load(std::memory_order_acquire) == round; ++looks) {
      if (looks < LOOKS)
        _mm_pause();
      else
        sched_yield();  // somebody else has this CPU or the other thread's: let them finish
    }
  }

 private:
  struct Seat {
    Team* team;
    int index;
    pthread_t thread;
  };

  void announce() {
    jobs_.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) > 0) wake_all(jobs_);
  }

  static void* serve(void* argument) {
    const Seat& seat = *static_cast<Seat*>(argument);
    Team& team = *seat.team;
    for (uint32_t seen = 0;; ++seen) {
      team.await(seen);
      if (team.job_ == nullptr) return nullptr;
      team.job_(Share{seat.index, team.count_, &team}, team.argument_);
      team.meet();
    }
  }

  // Until there is a job after the `seen` ones.
  void await(uint32_t seen) {
    for (int looks = 0; looks < LOOKS; ++looks) {
      if (jobs_.load(std::memory_order_acquire) != seen) return;
      _mm_pause();
    }
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    while (jobs_.load(std::memory_order_seq_cst) == seen) sleep_while(jobs_, seen);
    sleepers_.fetch_sub(1, std::memory_order_relaxed);
  }

  int count_ = 1;
  void (*job_)(const Share&, void*) = nullptr;
  void* argument_ = nullptr;
  Seat seats_[MOST];
  alignas(64) std::atomic<uint32_t> jobs_{0};
  std::atomic<int> sleepers_{0};
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<uint32_t> round_{0};
};

namespace {

pthread_mutex_t in_use = PTHREAD_MUTEX_INITIALIZER;
alignas(Team) char room[sizeof(Team)];
Team* team = nullptr;  // in the room, once hired
int wanted = 0;

// A forked child has none of the threads: it begins as if nobody had been hired.
void forget() {
  in_use = PTHREAD_MUTEX_INITIALIZER;
  team = nullptr;
}

__attribute__((constructor)) void prepare_for_forks() { pthread_atfork(nullptr, nullptr, &forget); }

Team& hired() {
  if (team == nullptr) team = new (room) Team(wanted);
  return *team;
}

}  // namespace

void Share::meet() const {
  if (count > 1) team->meet();
}

void run(void (*job)(const Share&, void*), void* argument) {
  if (pthread_mutex_trylock(&in_use) != 0) return job(Share{0, 1, nullptr}, argument);
  hired().run(job, argument);
  pthread_mutex_unlock(&in_use);
}

void set_threads(int count) {
  pthread_mutex_lock(&in_use);
  if (team != nullptr && count != wanted) {
    team->~Team();
    team = nullptr;
  }
  wanted = count;
  pthread_mutex_unlock(&in_use);
}

int threads() {
  pthread_mutex_lock(&in_use);
  const int count = hired().count();
  pthread_mutex_unlock(&in_use);
  return count;
}

}  // namespace quire
