// Functions of CUDA that PyTorch imports and nothing here answers or refuses, because it is newer than refusals.h. A call of
// one reaches the real library, which fails without a driver, and PyTorch may take that for something else.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <string.h>

#include "vgpu.h"

static char missing[1 << 14];  // lines

static int is_of_cuda(const char *function) {
  static const char *const families[] = {"cuda", "__cuda", "cublas", "cublasLt", "cudnn", "cusolver", "cusparse", "cufft", "nccl"};
  for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
    size_t length = strlen(families[i]);
    if (!strncmp(function, families[i], length) && function[length] >= 'A' && function[length] <= 'Z') return 1;
  }
  return 0;
}

static const void *address(const struct dl_phdr_info *object, ElfW(Addr) value) {  // the linker may have added the base
  return (const void *)(value < object->dlpi_addr ? value + object->dlpi_addr : value);
}

// The symbols before the first one of the hash table are those that an object imports.
static void list_imports(const struct dl_phdr_info *object, const ElfW(Dyn) *dynamic, void *here) {
  const ElfW(Sym) *symbols = NULL;
  const char *strings = NULL;
  const uint32_t *hash = NULL;
  for (; dynamic->d_tag != DT_NULL; dynamic++) {
    if (dynamic->d_tag == DT_SYMTAB) symbols = address(object, dynamic->d_un.d_ptr);
    if (dynamic->d_tag == DT_STRTAB) strings = address(object, dynamic->d_un.d_ptr);
    if (dynamic->d_tag == DT_GNU_HASH) hash = address(object, dynamic->d_un.d_ptr);
  }
  for (uint32_t i = 1; symbols && strings && hash && i < hash[1]; i++) {
    const char *name = strings + symbols[i].st_name;
    char line[256];
    if (symbols[i].st_shndx != SHN_UNDEF || !is_of_cuda(name) || dlsym(here, name)) continue;
    snprintf(line, sizeof line, "%s\n", name);
    if (!strstr(missing, line) && strlen(missing) + strlen(line) < sizeof missing) strcat(missing, line);
  }
}

static int visit(struct dl_phdr_info *object, size_t size, void *here) {
  if (!strstr(object->dlpi_name, "/libtorch") && !strstr(object->dlpi_name, "/libc10")) return 0;
  for (int i = 0; i < object->dlpi_phnum; i++)
    if (object->dlpi_phdr[i].p_type == PT_DYNAMIC)
      list_imports(object, (const ElfW(Dyn) *)(object->dlpi_addr + object->dlpi_phdr[i].p_vaddr), here);
  return 0;
}

// Their names, one a line, among the libraries of PyTorch that are loaded now.
API const char *vgpu_unknown_imports(void) {
  Dl_info info;
  void *here = dladdr(missing, &info) ? dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD) : NULL;
  if (here) dl_iterate_phdr(visit, here);
  return missing;
}
