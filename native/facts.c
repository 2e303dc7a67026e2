// The card's facts, from the environment: the library knows nothing of its own about any GPU.
#include "vgpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Facts facts = {
    // Without facts the library stands for a small T4, so that it can be tried by hand.
    .name = "Virtual GPU", .memory = 15637086208u, .context = 120586240u, .count = 1, .major = 7, .minor = 5,
    .multiprocessors = 40, .threads_per_multiprocessor = 1024, .blocks_per_multiprocessor = 16,
    .registers_per_multiprocessor = 65536, .shared_per_multiprocessor = 65536, .shared_per_block_optin = 65536,
    .l2 = 4 << 20, .clock_khz = 1590000, .memory_clock_khz = 5001000, .bus_width = 256,
};
static char refused[4096];

// A switch of the tests, as the line "refuse=NAME,NAME": make answered functions refuse from now on.
API void vgpu_refuse(const char *functions) {
  if (*functions) snprintf(refused, sizeof refused, ",%s,", functions);
  else refused[0] = 0;
}

typedef struct { const char *key; int *value; } Number;

static void set(const char *key, const char *value) {
  const Number numbers[] = {
      {"count", &facts.count}, {"major", &facts.major}, {"minor", &facts.minor},
      {"multiprocessors", &facts.multiprocessors},
      {"threads_per_multiprocessor", &facts.threads_per_multiprocessor},
      {"blocks_per_multiprocessor", &facts.blocks_per_multiprocessor},
      {"registers_per_multiprocessor", &facts.registers_per_multiprocessor},
      {"shared_per_multiprocessor", &facts.shared_per_multiprocessor},
      {"shared_per_block_optin", &facts.shared_per_block_optin},
      {"reserved_shared_per_block", &facts.reserved_shared_per_block},
      {"l2", &facts.l2}, {"clock_khz", &facts.clock_khz},
      {"memory_clock_khz", &facts.memory_clock_khz}, {"bus_width", &facts.bus_width},
  };
  if (!strcmp(key, "name")) snprintf(facts.name, sizeof facts.name, "%s", value);
  else if (!strcmp(key, "cudnn")) snprintf(facts.cudnn, sizeof facts.cudnn, "%s", value);
  else if (!strcmp(key, "refuse")) vgpu_refuse(value);
  else if (!strcmp(key, "memory")) facts.memory = strtoull(value, NULL, 10);
  else if (!strcmp(key, "context")) facts.context = strtoull(value, NULL, 10);
  else for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
    if (!strcmp(key, numbers[i].key)) *numbers[i].value = atoi(value);
}

__attribute__((constructor)) static void read_facts(void) {
  const char *text = getenv("VRAM_VIRTUAL_GPU");
  char *copy = text ? strdup(text) : NULL, *rest = copy;
  for (char *line; (line = strsep(&rest, "\n"));) {
    char *equals = strchr(line, '=');
    if (!equals) continue;
    *equals = 0;
    set(line, equals + 1);
  }
  free(copy);
}

int is_refused(const char *function) {
  if (!refused[0]) return 0;
  char wanted[256];
  snprintf(wanted, sizeof wanted, ",%s,", function);
  return strstr(refused, wanted) != NULL;
}
