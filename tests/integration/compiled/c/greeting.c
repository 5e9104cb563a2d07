#include <stdio.h>
#include <string.h>

void greeting(char *into, size_t size, const char *whom) { snprintf(into, size, "hello %s, since %s", whom, __DATE__); }
