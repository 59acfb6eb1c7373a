package wire

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

// TestKeysAreNamedByKindsThatKeepTheirNumbers: no field of a key is named by a kind of expression whose number differs
// between versions of nft, and each is read back as itself.
func TestKeysAreNamedByKindsThatKeepTheirNumbers(t *testing.T) {
	stable := []uint32{exprPayload, exprMeta, exprCt}
	for _, k := range []sets.FieldKind{
		sets.InReqid, sets.OutReqid, sets.InSPI, sets.OutSPI, sets.InOuterSrc4, sets.OutOuterDst4, sets.InOuterSrc6, sets.OutOuterDst6,
		sets.Src4, sets.Dst6, sets.Mark, sets.CtOrigSrc4, sets.UDPDst,
	} {
		f := sets.F(k)
		kind, _, _ := readExpr(fieldUdata(f))
		if !slices.Contains(stable, kind) {
			t.Errorf("%s is named by kind %d", f, kind)
		}
		key := []sets.Field{f, sets.F(sets.Dst4)}
		got, ok := readKey(appendUdata(nil, udataSetKeyType, keyUdata(key)), keyType(key), uint32(sets.KeySize(key)))
		if diff := cmp.Diff(key, got); diff != "" || !ok {
			t.Errorf("%s: read %v, want -, got +:\n%s", f, ok, diff)
		}
	}
}
