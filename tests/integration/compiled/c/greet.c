#include <stdio.h>
#include <string.h>

void greeting(char *into, size_t size, const char *whom);

int main(int count, char **words) {
    char whom[16], text[64];
    strcpy(whom, count > 1 ? words[1] : "nobody"); /* too long a word is for the C library to notice */
    greeting(text, sizeof text, whom);
    printf("%s, %zu bits\n", text, 8 * sizeof(void *));
    return 0;
}
