package wire_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/wire"
)

func TestNoKeyLeaves(t *testing.T) {
	var d wire.Decoder
	s := xfrm.Snapshot{Schema: xfrm.SchemaVersion}
	bodies := [][]byte{
		message(espState(), attribute(18, algName("rfc4106(gcm(aes))"), uint32(160), uint32(128), secret)),
		message(espState(), attribute(2, algName("cbc(aes)"), uint32(128), secret),
			attribute(1, algName("hmac(sha1)"), uint32(160), secret),
			attribute(20, algName("hmac(sha1)"), uint32(160), uint32(96), secret)),
		// These end in Skipped.
		message(espState(), attribute(2, algName("cbc(aes)"), uint32(128), secret), []byte{1}),
		message(espState(), attribute(2, algName(secret), uint32(128), secret)),
		[]byte(secret),
	}
	for _, body := range bodies {
		if err := d.Decode(&s, newSA, body); err != nil {
			t.Fatal(err)
		}
	}
	marshalled, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{string(marshalled), fmt.Sprintf("%v %+v %#v", s, s, s), fmt.Sprintf("%+v", d)}
	for _, text := range texts {
		for _, form := range []string{secret, "SECRET-KEY", hex.EncodeToString([]byte(secret)), fmt.Sprint([]byte(secret))} {
			if strings.Contains(text, form) {
				t.Errorf("key found in %s", text)
			}
		}
	}
	if len(s.States) != 2 || len(s.Skipped) != 3 {
		t.Errorf("got %d states and %d skipped, want 2 and 3", len(s.States), len(s.Skipped))
	}
}
