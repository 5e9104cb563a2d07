// Entry makes ready what a container lacks that BuildKit needs, and becomes buildkitd. Its arguments are buildkitd's.
//
//	/certs   ca.pem, cert.pem and key.pem: with them it also serves port 1234, to clients with a certificate of that CA
//
// As another user than root it does so as root of a user namespace, which rootlesskit makes (images/buildkit-rootless).
// It exits with 2 when a setting is missing or cannot be used.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	config      = "/config/buildkitd.toml"
	certs       = "/certs"
	buildkitd   = "/usr/bin/buildkitd"
	rootlesskit = "/usr/bin/rootlesskit"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "-help" {
		fmt.Println("usage: entry [ARGUMENT OF buildkitd]...")
		return
	}
	err := start(os.Args[1:])
	fmt.Fprintf(os.Stderr, "buildkit: %v\n", err)
	if mistake := (refusal)(""); errors.As(err, &mistake) {
		os.Exit(2)
	}
	os.Exit(1)
}

// start does not return if all is well.
func start(given []string) error {
	words, err := arguments(given, exists)
	if err != nil {
		return err
	}
	if os.Getuid() != 0 {
		return become(rootlesskit, append([]string{"--state-dir=/run/rootlesskit", "/entry"}, given...), mayMap())
	}
	// Emulators and the kernel's test programs are run from it.
	if err := os.MkdirAll(os.TempDir(), 0o700); err != nil {
		return fmt.Errorf("%w; it needs a volume on /data that user %d can write to", err, os.Getuid())
	}
	if mapped() {
		say("programs of other platforms, started by a step itself, want handlers in the kernel", register())
	} else {
		say("build steps want control groups that can be written to", unlock())
	}
	return become(buildkitd, words, nil)
}

// say tells what will not work, where something else may do.
func say(what string, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "buildkit: %s: %v\n", what, err)
	}
}

func become(program string, words []string, before error) error {
	if before != nil {
		return before
	}
	return fmt.Errorf("%s: %w", program, syscall.Exec(program, append([]string{filepath.Base(program)}, words...), os.Environ()))
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// mapped says whether this is the root of a user namespace, not of the machine.
func mapped() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(text)), " ") != "0 0 4294967295"
}

// mayMap says why this process could not make a user namespace with the users of /etc/subuid.
func mayMap() error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	if strings.Contains(string(status), "\nNoNewPrivs:\t1\n") {
		return refusal("newuidmap gives this user the numbers of /etc/subuid, and may not: run it without no-new-privileges")
	}
	command := exec.Command("/proc/self/exe", "-help")
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
	if err := command.Run(); err != nil {
		return refusal(fmt.Sprintf("a user namespace cannot be made: %v; run it with --security-opt seccomp=unconfined, and with "+
			"apparmor=unconfined where AppArmor is; the kernel must allow them to ordinary users", err))
	}
	return nil
}
