package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	handlers = "/usr/share/qemu/binfmt.d/qemu-%s.conf"
	programs = "/usr/libexec/qemu-binfmt/%s-binfmt-P" // by its name qemu knows how the kernel calls it
	binfmt   = "/run/binfmt_misc"
)

// What a kernel runs by itself, or is asked to no emulator for.
var own = map[string][]string{
	"x86_64": {"x86_64", "i386"}, "i686": {"i386"}, "aarch64": {"aarch64", "arm"}, "armv7l": {"arm"}, "armv6l": {"arm"},
}

// unlock lets build steps have control groups: Docker mounts them read-only where a container is not privileged.
func unlock() error {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for _, folder := range locked(string(text)) {
		flags := uintptr(syscall.MS_REMOUNT | syscall.MS_BIND | syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC)
		if err := syscall.Mount("", folder, "", flags, ""); err != nil {
			return fmt.Errorf("%s: %w", folder, err)
		}
	}
	return nil
}

// locked are the places of control groups that are mounted read-only: proc_pid_mountinfo(5).
func locked(mountinfo string) []string {
	var found []string
	for line := range strings.Lines(mountinfo) {
		front, back, _ := strings.Cut(line, " - ")
		words, kind := strings.Fields(front), strings.Fields(back)
		if len(words) > 5 && len(kind) > 0 && strings.HasPrefix(kind[0], "cgroup") && strings.HasPrefix(words[5]+",", "ro,") {
			found = append(found, words[4])
		}
	}
	return found
}

// register tells the kernel which emulators run programs of other platforms, in this user namespace alone (Linux 6.7).
// BuildKit itself would start the first program of a step under an emulator, and what that starts would fail.
func register() error {
	var kernel syscall.Utsname
	if err := syscall.Uname(&kernel); err != nil {
		return err
	}
	var machine []byte
	for _, letter := range kernel.Machine {
		if letter == 0 {
			break
		}
		machine = append(machine, byte(letter))
	}
	if err := os.MkdirAll(binfmt, 0o755); err != nil {
		return err
	}
	if err := syscall.Mount("binfmt_misc", binfmt, "binfmt_misc", 0, ""); err != nil {
		return fmt.Errorf("binfmt_misc: %w; a kernel from 6.7 on lets a user namespace have its own", err)
	}
	for _, name := range foreign(string(machine)) {
		if !exists(fmt.Sprintf(programs, name)) {
			continue // an image has none of its own platform, which may be another than the kernel's
		}
		text, err := os.ReadFile(fmt.Sprintf(handlers, name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(binfmt, "register"), []byte(handler(string(text), name)), 0o200); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// foreign are the emulators that a machine has a use for.
func foreign(machine string) []string {
	var found []string
	for _, name := range []string{"aarch64", "arm", "i386", "ppc64le", "riscv64", "s390x", "x86_64"} {
		wanted := name != machine
		for _, one := range own[machine] {
			wanted = wanted && one != name
		}
		if wanted {
			found = append(found, name)
		}
	}
	return found
}

// handler is Debian's line for an emulator, with the place that it has here:
// https://docs.kernel.org/admin-guide/binfmt-misc.html
func handler(line, name string) string {
	parts := strings.Split(strings.TrimSpace(line), ":")
	if len(parts) != 8 {
		return line
	}
	parts[6] = fmt.Sprintf(programs, name)
	return strings.Join(parts, ":")
}
