// Entry makes the users and folders of an AFP server, and becomes it. It must be root, with the capabilities SETUID and
// SETGID and no others. Its arguments are the server's.
//
//	USERS       a line for each user: NAME:PASSWORD
//	USERS_FILE  or the file that has these lines
//
// With -health it asks the server that runs here for its status, and exits with 1 if it does not say. It exits with 2
// when a setting is missing or cannot be used.
package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	config = "/config/afp.conf"
	afpd   = "/usr/sbin/afpd"
	state  = "/tmp/netatalk"   // where libnss-extrausers looks: /var/lib/extrausers is a link to this folder
	kept   = "/data/.netatalk" // where afpd keeps what it knows of itself: /var/lib/netatalk is a link to this folder
	owner  = 2000              // of the files, and whom all users are to the kernel
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "-health" {
		said, err := healthy("127.0.0.1:5480")
		if err != nil {
			fmt.Fprintf(os.Stderr, "netatalk: %v\n", err)
			os.Exit(1)
		}
		fmt.Println(said)
		return
	}
	err := prepare()
	if err == nil {
		words := append([]string{"afpd", "-d", "-F", config}, os.Args[1:]...)
		err = fmt.Errorf("%s: %w", afpd, syscall.Exec(afpd, words, os.Environ()))
	}
	if mistakes := (refusal{}); errors.As(err, &mistakes) {
		for _, text := range mistakes {
			fmt.Fprintln(os.Stderr, "netatalk: "+text)
		}
		os.Exit(2)
	}
	fmt.Fprintf(os.Stderr, "netatalk: %v\n", err)
	os.Exit(1)
}

// prepare makes what afpd needs: users that NSS knows, with their passwords, and the folders of the shares.
func prepare() error {
	users, err := read(os.Getenv, os.ReadFile)
	if err != nil {
		return err
	}
	os.Unsetenv("USERS") // the server need not have it
	text, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	if err := volume(shares(string(text))); err != nil {
		return err
	}
	// A container that is started again may have its /tmp: who is not a user any more must not be one.
	if err := os.RemoveAll(state); err != nil {
		return err
	}
	if err := os.Mkdir(state, 0o755); err != nil {
		return fmt.Errorf("%w; it needs a tmpfs on /tmp", err)
	}
	var shadow strings.Builder
	for _, one := range users {
		hash, err := hashed(one.password)
		if err != nil {
			return fmt.Errorf("the password of %s: %w", one.name, err)
		}
		fmt.Fprintf(&shadow, "%s:%s:::::::\n", one.name, hash)
	}
	if err := os.WriteFile(filepath.Join(state, "passwd"), passwd(users, owner), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(state, "shadow"), []byte(shadow.String()), 0o600)
}

// volume makes the folders on the volume, as the owner of the files. Root alone may not go where this user may, so it
// takes this user's group, which may write to the folders too: afpd tries as root whether they have extended
// attributes.
func volume(folders []string) error {
	if os.Getuid() != 0 {
		return refusal{fmt.Sprintf("it is user %d: afpd must be root, with the capabilities SETUID and SETGID, to become who logs in", os.Getuid())}
	}
	err := errors.Join(syscall.Setgroups([]int{owner}), syscall.Setegid(owner), syscall.Seteuid(owner))
	if err != nil {
		return refusal{fmt.Sprintf("it may not become user %d (%v): it needs the capabilities SETUID and SETGID", owner, err)}
	}
	for _, folder := range append(folders, kept) {
		if err := errors.Join(os.MkdirAll(folder, 0o770), os.Chmod(folder, 0o770)); err != nil {
			return fmt.Errorf("%w; it needs a volume on /data that user %d can write to, and its group read", err, owner)
		}
	}
	return errors.Join(syscall.Seteuid(0), syscall.Setegid(0))
}

// letters are those of which salts are made, 64 of them.
const letters = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// hashed is a password as /etc/shadow has it, with yescrypt, by crypt(3). Of the programs in the image perl has it.
func hashed(password string) (string, error) {
	random := make([]byte, 16)
	rand.Read(random)
	salt := "$y$j9T$"
	for _, value := range random {
		salt += string(letters[value%64])
	}
	command := exec.Command("/usr/bin/perl", "-e", `local $/; print crypt(<STDIN>, $ARGV[0])`, salt)
	command.Stdin = strings.NewReader(password)
	said, err := command.Output()
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(string(said), salt) || len(said) < len(salt)+40 {
		return "", fmt.Errorf("crypt(3) says %q", said)
	}
	return string(said), nil
}
