// Device memory, and what is known of its contents.
#ifndef MEMORY_H
#define MEMORY_H

#include "vgpu.h"

int is_device_address(const void *p);

// shadow.c
void forget(const void *p, size_t size);
void copy_bytes(void *to, const void *from, size_t size, int kind);
void look_for_arguments(const void *stack);
void note_kernel(const char *name);

#endif
