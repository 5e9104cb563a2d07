package main

import (
	"slices"
	"strings"
	"testing"
)

func with(names ...string) func(string) bool {
	return func(name string) bool { return slices.Contains(names, name) }
}

func TestAPortIsServedWithAllThreeCertificatesOnly(t *testing.T) {
	all := with("/certs/ca.pem", "/certs/cert.pem", "/certs/key.pem")
	words, err := arguments([]string{"--debug"}, all)
	if err != nil || !strings.Contains(strings.Join(words, " "), "--addr unix:///run/buildkit/buildkitd.sock --addr tcp://:1234 --tlscacert /certs/ca.pem") {
		t.Error(words, err)
	}
	if words[len(words)-1] != "--debug" {
		t.Error(words)
	}
	if words, err := arguments(nil, with()); err != nil || strings.Contains(strings.Join(words, " "), "tcp") {
		t.Error(words, err)
	}
	if _, err := arguments([]string{"--addr", "tcp://:1", "--tlscacert", "/ca"}, with()); err != nil {
		t.Error(err)
	}
}

func TestAPortThatEverybodyCouldUseIsRefused(t *testing.T) {
	for _, test := range []struct {
		given []string
		there func(string) bool
		says  string
	}{
		{[]string{"--addr", "tcp://0.0.0.0:1234"}, with(), "a port without certificates"},
		{[]string{"--addr=tcp://0.0.0.0:1234"}, with(), "a port without certificates"},
		{nil, with("/certs/ca.pem"), "no cert.pem and no key.pem"},
		{nil, with("/certs/cert.pem", "/certs/key.pem"), "no ca.pem"},
	} {
		words, err := arguments(test.given, test.there)
		if mistake, is := err.(refusal); !is || !strings.Contains(string(mistake), test.says) {
			t.Errorf("%v: %v, %v", test.given, words, err)
		}
	}
}

func TestControlGroupsThatAreReadOnlyAreFound(t *testing.T) {
	text := "22 21 0:20 /docker/a /sys/fs/cgroup/cpu ro,nosuid,nodev,noexec,relatime master:9 - cgroup cgroup rw,cpu\n" +
		"23 21 0:21 / /sys/fs/cgroup/pids rw,nosuid - cgroup cgroup rw,pids\n" +
		"24 21 0:22 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n" +
		"25 21 0:23 / /proc/sys ro,nosuid - proc proc rw\n"
	if found := locked(text); !slices.Equal(found, []string{"/sys/fs/cgroup/cpu", "/sys/fs/cgroup"}) {
		t.Error(found)
	}
}

func TestWhatTheKernelRunsItselfIsNotEmulated(t *testing.T) {
	for machine, wanted := range map[string][]string{
		"x86_64":  {"aarch64", "arm", "ppc64le", "riscv64", "s390x"},
		"aarch64": {"i386", "ppc64le", "riscv64", "s390x", "x86_64"},
		"s390x":   {"aarch64", "arm", "i386", "ppc64le", "riscv64", "x86_64"},
	} {
		if found := foreign(machine); !slices.Equal(found, wanted) {
			t.Errorf("%s: %v", machine, found)
		}
	}
}

func TestAHandlerIsDebiansWithItsPlaceHere(t *testing.T) {
	line := `:qemu-arm:M::\x7fELF\x01:\xff\xff:/usr/bin/qemu-arm-static:OCPF` + "\n"
	if made := handler(line, "arm"); made != `:qemu-arm:M::\x7fELF\x01:\xff\xff:/usr/libexec/qemu-binfmt/arm-binfmt-P:OCPF` {
		t.Error(made)
	}
}
