/* Saturates the vector units of the CPUs it may run on, or measures what they still give.
 *
 *   squeeze burn    THREADS SECONDS SHARE   tight FMA / SQRT / RCP14 loops in SHARE percent of every 5 ms, in all
 *                                           threads at once, as many on each CPU; ends by itself after SECONDS
 *   squeeze measure MILLISECONDS            a thread of FMA on each CPU; prints {"isa": ..., "gflops": a CPU's}
 *
 * Threads are bound one by one: where the kernel shares CPUs between groups of processes, it may else push all
 * of ours onto one CPU and leave the server, or the victim, the others.
 *
 * AVX-512 where the CPU has it, else AVX2 + FMA, else scalar; the first line printed says which.
 * The kind of load is that of the published anomaly (arXiv 2601.09258, CPU compute squeeze-out). */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define PERIOD_S 0.005
#define ROUNDS 4096 /* between two looks at the clock: some 10 microseconds */

typedef double (*kernel)(double);

static volatile sig_atomic_t stopped;
static volatile double sink; /* keeps the compiler from dropping the loops */

#if defined(__x86_64__)
#include <immintrin.h>

#define EIGHT(op) op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7)

__attribute__((target("avx512f"))) static double fma_avx512(double x) {
  __m512d a[8], m = _mm512_set1_pd(0.999999), c = _mm512_set1_pd(1e-6);
  for (int k = 0; k < 8; k++) a[k] = _mm512_set1_pd(x + k);
  for (int i = 0; i < ROUNDS; i++) {
#define STEP(k) a[k] = _mm512_fmadd_pd(a[k], m, c);
    EIGHT(STEP)
#undef STEP
  }
  double total = 0;
  for (int k = 0; k < 8; k++) total += _mm512_reduce_add_pd(a[k]);
  return total;
}

__attribute__((target("avx512f"))) static double burn_avx512(double x) {
  __m512d a[8], m = _mm512_set1_pd(0.999999), c = _mm512_set1_pd(1.5);
  for (int k = 0; k < 8; k++) a[k] = _mm512_set1_pd(x + k + 1);
  for (int i = 0; i < ROUNDS / 8; i++) {
#define STEP(k) a[k] = _mm512_fmadd_pd(_mm512_rcp14_pd(a[k]), m, _mm512_sqrt_pd(_mm512_fmadd_pd(a[k], m, c)));
    EIGHT(STEP)
#undef STEP
  }
  double total = 0;
  for (int k = 0; k < 8; k++) total += _mm512_reduce_add_pd(a[k]);
  return total;
}

__attribute__((target("avx2,fma"))) static double fma_avx2(double x) {
  __m256d a[8], m = _mm256_set1_pd(0.999999), c = _mm256_set1_pd(1e-6);
  double lanes[4], total = 0;
  for (int k = 0; k < 8; k++) a[k] = _mm256_set1_pd(x + k);
  for (int i = 0; i < ROUNDS; i++) {
#define STEP(k) a[k] = _mm256_fmadd_pd(a[k], m, c);
    EIGHT(STEP)
#undef STEP
  }
  for (int k = 0; k < 8; k++) {
    _mm256_storeu_pd(lanes, a[k]);
    total += lanes[0] + lanes[1] + lanes[2] + lanes[3];
  }
  return total;
}

__attribute__((target("avx2,fma"))) static double burn_avx2(double x) {
  __m256d a[8], one = _mm256_set1_pd(1.0), m = _mm256_set1_pd(0.999999), c = _mm256_set1_pd(1.5);
  double lanes[4], total = 0;
  for (int k = 0; k < 8; k++) a[k] = _mm256_set1_pd(x + k + 1);
  for (int i = 0; i < ROUNDS / 8; i++) {
#define STEP(k) a[k] = _mm256_fmadd_pd(_mm256_div_pd(one, a[k]), m, _mm256_sqrt_pd(_mm256_fmadd_pd(a[k], m, c)));
    EIGHT(STEP)
#undef STEP
  }
  for (int k = 0; k < 8; k++) {
    _mm256_storeu_pd(lanes, a[k]);
    total += lanes[0] + lanes[1] + lanes[2] + lanes[3];
  }
  return total;
}
#endif

static double fma_scalar(double x) {
  double a[8];
  for (int k = 0; k < 8; k++) a[k] = x + k;
  for (int i = 0; i < ROUNDS; i++)
    for (int k = 0; k < 8; k++) a[k] = a[k] * 0.999999 + 1e-6;
  return a[0] + a[1] + a[2] + a[3] + a[4] + a[5] + a[6] + a[7];
}

static double burn_scalar(double x) {
  double a[8];
  for (int k = 0; k < 8; k++) a[k] = x + k + 1;
  for (int i = 0; i < ROUNDS / 8; i++)
    for (int k = 0; k < 8; k++) a[k] = 1.0 / a[k] + __builtin_sqrt(a[k] + 1.5);
  return a[0] + a[1] + a[2] + a[3] + a[4] + a[5] + a[6] + a[7];
}

static const char *isa = "scalar";
static kernel fma_kernel = fma_scalar, burn_kernel = burn_scalar;
static int lanes_of_isa = 1;

static void choose(void) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) {
    isa = "AVX-512", fma_kernel = fma_avx512, burn_kernel = burn_avx512, lanes_of_isa = 8;
  } else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    isa = "AVX2", fma_kernel = fma_avx2, burn_kernel = burn_avx2, lanes_of_isa = 4;
  }
#endif
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double share = 1.0;

static int cpus[CPU_SETSIZE];
static long cpu_count;

static void list_cpus(void) {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
    if (CPU_ISSET(cpu, &allowed)) cpus[cpu_count++] = cpu;
}

static void bind_to(long number) {
  cpu_set_t one;
  if (cpu_count == 0) return;
  CPU_ZERO(&one);
  CPU_SET(cpus[number % cpu_count], &one);
  sched_setaffinity(0, sizeof one, &one); /* of this thread alone */
}

static void pause_for(double seconds) {
  struct timespec t = {0, (long)(1e9 * seconds)};
  if (seconds > 0) nanosleep(&t, NULL);
}

static double burns_until;

static void *burn(void *number) {
  double x = 1.0, at;
  bind_to((long)(intptr_t)number);
  while (!stopped && (at = now()) < burns_until) {
    double period = (double)(int64_t)(at / PERIOD_S);
    if (at >= (period + share) * PERIOD_S) pause_for((period + 1) * PERIOD_S - at);
    else x = burn_kernel(x - (double)(int64_t)x);
  }
  sink = x;
  return NULL;
}

static void stop(int signal_number) {
  (void)signal_number;
  stopped = 1;
}

static long bounded(const char *text, long low, long high) {
  char *rest;
  long value = strtol(text, &rest, 10);
  if (*text == 0 || *rest != 0 || value < low || value > high) {
    fprintf(stderr, "squeeze: %s is not a whole number from %ld to %ld\n", text, low, high);
    exit(2);
  }
  return value;
}

static int run_burn(long threads, long seconds) {
  pthread_t *ids = calloc((size_t)threads, sizeof *ids);
  struct sigaction action = {.sa_handler = stop};
  burns_until = now() + (double)seconds;
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGHUP, &action, NULL);
  if (!ids) return 1;
  for (long k = 1; k < threads; k++)
    if (pthread_create(&ids[k], NULL, burn, (void *)(intptr_t)k) != 0) return 1;
  printf("{\"isa\": \"%s\", \"threads\": %ld}\n", isa, threads);
  fflush(stdout);
  burn(NULL); /* the main thread is one of them */
  for (long k = 1; k < threads; k++) pthread_join(ids[k], NULL);
  return 0;
}

struct victim {
  pthread_t id;
  long number;
  double seconds, gflops;
};

static void *measure(void *given) {
  struct victim *victim = given;
  double start, at, x = 1.0, calls = 0;
  bind_to(victim->number);
  for (start = at = now(); at < start + victim->seconds; at = now(), calls += 1) x = fma_kernel(x - (double)(int64_t)x);
  sink = x;
  victim->gflops = calls * ROUNDS * 8 * 2 * lanes_of_isa / (at - start) / 1e9;
  return NULL;
}

static int run_measure(long milliseconds) {
  long count = cpu_count > 0 ? cpu_count : 1;
  struct victim *victims = calloc((size_t)count, sizeof *victims);
  double total = 0;
  if (!victims) return 1;
  for (long k = 0; k < count; k++) {
    victims[k].number = k, victims[k].seconds = 1e-3 * (double)milliseconds;
    if (pthread_create(&victims[k].id, NULL, measure, &victims[k]) != 0) return 1;
  }
  for (long k = 0; k < count; k++) pthread_join(victims[k].id, NULL), total += victims[k].gflops;
  printf("{\"isa\": \"%s\", \"gflops\": %.6f}\n", isa, total / (double)count);
  return 0;
}

int main(int argc, char **argv) {
  prctl(PR_SET_PDEATHSIG, SIGKILL); /* whoever started the fault is gone: so is the fault */
  if (getppid() == 1 && getenv("LPRISM_SESSION")) return 1; /* it went before prctl took hold */
  choose();
  list_cpus();
  if (argc == 5 && strcmp(argv[1], "burn") == 0) {
    share = (double)bounded(argv[4], 1, 100) / 100;
    return run_burn(bounded(argv[2], 1, 65536), bounded(argv[3], 1, 86401));
  }
  if (argc == 3 && strcmp(argv[1], "measure") == 0) return run_measure(bounded(argv[2], 10, 60000));
  fprintf(stderr, "usage: squeeze burn THREADS SECONDS SHARE | squeeze measure MILLISECONDS\n");
  return 2;
}
