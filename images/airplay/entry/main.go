// Entry runs an AirPlay speaker: shairport-sync, the avahi-daemon that tells the network of it, and the bus between the
// two. If one of them ends, all end. Its arguments are shairport-sync's.
//
//	AIRPLAY_NAME  what the speaker is called
//
// It exits with 2 when the name cannot be used, and with 1 if one of the programs ends.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"unicode/utf8"
)

const (
	pipe   = "/data/audio"
	socket = "/tmp/dbus/socket"  // config/dbus.conf has it too
	avahi  = "/tmp/avahi-daemon" // /run/avahi-daemon is a link to this folder
)

func main() {
	// All of them log to stderr, which no setting changes.
	if err := syscall.Dup3(1, 2, 0); err != nil {
		os.Exit(1)
	}
	name := os.Getenv("AIRPLAY_NAME")
	if err := check(name); err != nil {
		fmt.Fprintf(os.Stderr, "airplay: %v\n", err)
		os.Exit(2)
	}
	err := prepare()
	if err == nil {
		err = serve(
			program{words: []string{"/usr/bin/dbus-daemon", "--config-file=/config/dbus.conf", "--nofork", "--nopidfile", "--nosyslog"}, makes: socket},
			program{words: []string{"/usr/sbin/avahi-daemon", "--file=/config/avahi-daemon.conf", "--no-drop-root", "--no-chroot", "--no-rlimits"}, makes: avahi + "/socket"},
			program{words: append([]string{"/usr/bin/shairport-sync", "--configfile=/config/shairport-sync.conf", "--name=" + name}, os.Args[1:]...)})
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "airplay: %v\n", err)
		os.Exit(1)
	}
}

// check refuses what no service may be called in mDNS (RFC 6763, 4.1.1). 13 of the 63 bytes are for the speaker's number,
// which shairport-sync puts before its name.
func check(name string) error {
	if name == "" || len(name) > 50 || !utf8.ValidString(name) {
		return errors.New("AIRPLAY_NAME must have 1 to 50 bytes of UTF-8")
	}
	return nil
}

// prepare makes what the programs write to.
func prepare() error {
	for _, folder := range []string{"/tmp/dbus", avahi} {
		// A container that is started again may have its /tmp: what is there is of programs that have ended.
		if err := errors.Join(os.RemoveAll(folder), os.Mkdir(folder, 0o755)); err != nil {
			return fmt.Errorf("%w; it needs a tmpfs on /tmp that user %d can write to", err, os.Getuid())
		}
	}
	os.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+socket)
	err := syscall.Mkfifo(pipe, 0o660)
	if err == nil {
		return os.Chmod(pipe, 0o660)
	}
	if !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: %w; it needs a volume on /data that user %d can write to", pipe, err, os.Getuid())
	}
	there, err := os.Stat(pipe)
	if err == nil && there.Mode()&fs.ModeNamedPipe == 0 {
		err = fmt.Errorf("%s is there, and is no pipe", pipe)
	}
	return err
}
