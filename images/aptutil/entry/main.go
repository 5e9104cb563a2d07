// Entry writes nginx's configuration from the settings in the environment, and becomes nginx, which cannot read them.
//
//	ORIGINS     the repositories that are cached, by the names they have here, apart by spaces:
//	            debian=https://mirror.example.org/debian team=https://user:password@apt.example.org
//	CACHE_SIZE  how much is kept in /data (20g)
//
// It exits with 2 when a setting is missing or cannot be used.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"text/template"
)

const (
	source = "/config/nginx.conf"
	made   = "/tmp/nginx.conf"
	socket = "/tmp/origins.sock" // of an nginx that was killed, where /tmp outlives it
	nginx  = "/usr/sbin/nginx"
)

func main() {
	hosts, _ := os.ReadFile("/etc/hosts") // who has neither has no names
	resolv, _ := os.ReadFile("/etc/resolv.conf")
	found, err := read(os.Getenv, string(hosts), string(resolv))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if err := start(found); err != nil {
		fmt.Fprintf(os.Stderr, "aptutil: %v\n", err)
		os.Exit(1)
	}
}

// start returns only if nginx cannot be started.
func start(found settings) error {
	text, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	configuration, err := fill(string(text), found)
	if err != nil {
		return err
	}
	if err := os.WriteFile(made, configuration, 0o600); err != nil {
		return fmt.Errorf("%w; with a read-only root it needs a tmpfs there", err)
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return fmt.Errorf("%s: %w", nginx, syscall.Exec(nginx, []string{"nginx", "-e", "stderr", "-c", made}, os.Environ()))
}

// fill puts the settings in place of their names in double braces.
func fill(text string, found settings) ([]byte, error) {
	parsed, err := template.New(source).Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = parsed.Execute(&out, found)
	return out.Bytes(), err
}
