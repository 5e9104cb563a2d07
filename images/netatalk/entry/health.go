package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

const (
	getStatus = 3       // DSIGetStatus: what anybody may ask, without a session
	most      = 1 << 16 // bytes that a status may have
)

// question is DSIGetStatus, a header and nothing else: Apple Filing Protocol Programming Guide, Data Stream Interface.
func question() []byte {
	message := make([]byte, 16)
	message[1] = getStatus
	binary.BigEndian.PutUint16(message[2:], 1) // number of the request
	return message
}

// healthy asks a server for its status, and returns the versions of AFP and the ways to log in that it names.
func healthy(address string) (string, error) {
	connection, err := net.DialTimeout("tcp", address, 3*time.Second)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		return "", err
	}
	if _, err := connection.Write(question()); err != nil {
		return "", err
	}
	header := make([]byte, 16)
	if _, err := io.ReadFull(connection, header); err != nil {
		return "", err
	}
	size := binary.BigEndian.Uint32(header[8:])
	switch {
	case header[0] != 1 || header[1] != getStatus || binary.BigEndian.Uint16(header[2:]) != 1 || size > most:
		return "", errors.New("what answers does not speak AFP over TCP")
	case binary.BigEndian.Uint32(header[4:]) != 0:
		return "", fmt.Errorf("the server answers with the error %d", int32(binary.BigEndian.Uint32(header[4:])))
	}
	status := make([]byte, size)
	if _, err := io.ReadFull(connection, status); err != nil {
		return "", err
	}
	var found []string
	for _, at := range []int{2, 4} { // where the lists of versions and of ways to log in begin
		names, err := list(status, at)
		if err != nil {
			return "", err
		}
		found = append(found, names...)
	}
	return strings.Join(found, ", "), nil
}

// list reads the list of names whose offset is at a place of the status: a count, and Pascal strings.
func list(status []byte, at int) ([]string, error) {
	short := errors.New("the server's status is cut off")
	if len(status) < at+2 {
		return nil, short
	}
	place := int(binary.BigEndian.Uint16(status[at:]))
	if len(status) <= place || status[place] == 0 {
		return nil, short
	}
	count := int(status[place])
	place++
	var names []string
	for range count {
		if len(status) <= place || len(status) <= place+int(status[place]) {
			return nil, short
		}
		names = append(names, string(status[place+1:place+1+int(status[place])]))
		place += 1 + int(status[place])
	}
	return names, nil
}
