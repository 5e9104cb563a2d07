// Entry makes the users and folders of a Samba server, and becomes it. Its arguments are the server's.
//
//	USERS       a line for each user: NAME:PASSWORD
//	USERS_FILE  or the file that has these lines
//
// With -health it asks the server that runs here which dialect of SMB it speaks, and exits with 1 if it does not say.
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
	config = "/config/smb.conf"
	state  = "/tmp/samba"
	smbd   = "/usr/sbin/smbd"
)

// What must be there before smbd starts; its parts make the rest.
var folders = []string{state, state + "/ncalrpc", "/data/.samba/private", "/data/.samba/state"}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "-health" {
		if err := healthy("127.0.0.1:4450"); err != nil {
			fmt.Fprintf(os.Stderr, "samba: %v\n", err)
			os.Exit(1)
		}
		return
	}
	err := prepare()
	if err == nil {
		words := append([]string{"smbd", "-F", "--no-process-group", "--debug-stdout", "-s", config}, os.Args[1:]...)
		err = fmt.Errorf("%s: %w", smbd, syscall.Exec(smbd, words, os.Environ()))
	}
	if mistakes := (refusal{}); errors.As(err, &mistakes) {
		for _, text := range mistakes {
			fmt.Fprintln(os.Stderr, "samba: "+text)
		}
		os.Exit(2)
	}
	fmt.Fprintf(os.Stderr, "samba: %v\n", err)
	os.Exit(1)
}

// prepare makes what smbd needs: users that NSS and Samba know, and the folders of the shares.
func prepare() error {
	users, err := read(os.Getenv, os.ReadFile)
	if err != nil {
		return err
	}
	os.Unsetenv("USERS") // smbd's children need not have it
	text, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	for _, folder := range append(folders, shares(string(text))...) {
		if err := os.MkdirAll(folder, 0o750); err != nil {
			return fmt.Errorf("%w; it needs a tmpfs on /tmp and a volume on /data that user %d can write to", err, os.Getuid())
		}
	}
	// libnss-extrausers reads it there: /var/lib/extrausers is a link to this folder.
	if err := os.WriteFile(filepath.Join(state, "passwd"), passwd(users, os.Getuid(), os.Getgid()), 0o644); err != nil {
		return err
	}
	// A container that is started again may have its /tmp: who is not a user any more must not be one.
	if err := os.RemoveAll(filepath.Join(state, "passdb.tdb")); err != nil {
		return err
	}
	for _, one := range users {
		command := exec.Command("/usr/bin/pdbedit", "-s", config, "-a", "-t", "-u", one.name)
		command.Stdin = strings.NewReader(one.password + "\n" + one.password + "\n")
		if said, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("pdbedit does not take the user %s: %w\n%s", one.name, err, said)
		}
	}
	return nil
}
