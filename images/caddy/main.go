// Caddy is caddy's cmd/caddy, but for its log: all of it goes to stdout, also what comes before the configuration is read.
package main

import (
	"fmt"
	"os"
	"syscall"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "run" {
		if err := syscall.Dup3(syscall.Stdout, syscall.Stderr, 0); err != nil {
			fmt.Fprintln(os.Stderr, "caddy: cannot write its log to stdout:", err)
			os.Exit(1)
		}
	}
	caddycmd.Main()
}
