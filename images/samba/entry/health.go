package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// The dialects that are offered: SMB 2.0.2 and 2.1, which every server has that is asked here.
var dialects = []uint16{0x0202, 0x0210}

// question is a NEGOTIATE request of SMB2, behind the length that it has on TCP: [MS-SMB2] 2.1, 2.2.1.2 and 2.2.3.
func question() []byte {
	message := make([]byte, 64+36+2*len(dialects))
	copy(message, "\xfeSMB")
	binary.LittleEndian.PutUint16(message[4:], 64)  // size of the header; the command is 0, NEGOTIATE
	binary.LittleEndian.PutUint16(message[14:], 1)  // credits
	binary.LittleEndian.PutUint16(message[64:], 36) // size of the rest, as fixed
	binary.LittleEndian.PutUint16(message[66:], uint16(len(dialects)))
	binary.LittleEndian.PutUint16(message[68:], 1) // signing enabled
	for number, dialect := range dialects {
		binary.LittleEndian.PutUint16(message[100+2*number:], dialect)
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(message))), message...)
}

// healthy asks a server for its dialect.
func healthy(address string) error {
	connection, err := net.DialTimeout("tcp", address, 3*time.Second)
	if err != nil {
		return err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		return err
	}
	if _, err := connection.Write(question()); err != nil {
		return err
	}
	answer := make([]byte, 4+64+6)
	if _, err := io.ReadFull(connection, answer); err != nil {
		return err
	}
	return judge(answer[4:])
}

// judge reads the beginning of the answer: its header, and the dialect behind it.
func judge(answer []byte) error {
	if string(answer[:4]) != "\xfeSMB" || binary.LittleEndian.Uint16(answer[12:]) != 0 {
		return errors.New("what answers does not speak SMB2")
	}
	if status := binary.LittleEndian.Uint32(answer[8:]); status != 0 {
		return fmt.Errorf("the server answers with the status %#08x", status)
	}
	if dialect := binary.LittleEndian.Uint16(answer[68:]); dialect != 0x0210 {
		return fmt.Errorf("the server chose the dialect %#04x, which it was not offered, or not SMB 2.1", dialect)
	}
	return nil
}
