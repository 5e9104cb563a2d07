package main

import (
	"path/filepath"
	"strings"
)

const (
	socket = "unix:///run/buildkit/buildkitd.sock"
	port   = "tcp://:1234"
)

// A refusal is an error that a person's settings are the cause of.
type refusal string

func (mistake refusal) Error() string { return string(mistake) }

// arguments are those that buildkitd gets: what is given, behind the port if there are certificates for it. Whoever
// reaches a port without them is root of all that is built, build steps too, so there is none.
func arguments(given []string, exists func(string) bool) ([]string, error) {
	words := []string{"--config", config}
	var lacking []string
	for _, name := range []string{"ca", "cert", "key"} {
		if !exists(filepath.Join(certs, name+".pem")) {
			lacking = append(lacking, name+".pem")
		}
	}
	switch text := strings.Join(given, "\n"); {
	case len(lacking) == 0:
		words = append(words, "--addr", socket, "--addr", port, "--tlscacert", filepath.Join(certs, "ca.pem"),
			"--tlscert", filepath.Join(certs, "cert.pem"), "--tlskey", filepath.Join(certs, "key.pem"))
	case len(lacking) < 3:
		return nil, refusal("in " + certs + " is no " + strings.Join(lacking, " and no ") + ", and it needs all three of ca.pem, cert.pem and key.pem")
	case strings.Contains(text, "tcp://") && !strings.Contains(text, "--tlscacert"):
		return nil, refusal("a port without certificates is open to everybody who reaches it, build steps too: put ca.pem, " +
			"cert.pem and key.pem into " + certs + ", and leave out --addr")
	}
	return append(words, given...), nil
}
