// Reads Beego's sessions as Go wrote them, and the same with keys of ours beside theirs, and says whether they are equal: see README.md.
package main

import (
	"bufio"
	"bytes"
	"encoding/gob"
	"encoding/hex"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/acme/shop/geo"
	"github.com/acme/shop/models"
	other "github.com/acme/shop/other/models"
)

type User struct {
	ID      int
	Name    string
	Tags    []string
	Meta    map[string]int
	Created time.Time
}
type PUser User
type Session struct {
	UID     int64
	Email   string
	Perms   map[string]bool
	Flash   []interface{}
	Expires time.Time
	IP      net.IP
}

func main() {
	for _, v := range []interface{}{
		&big.Int{}, &PUser{}, new(models.Counter), &models.Node{}, &other.PAccount{}, &models.PtrMoney{}, &url.URL{}, [1]bool{}, [2]geo.Point{}, [2]interface{}{},
		[3]int{}, [4]uint8{}, []*int{}, []*string{}, [][]int{}, [][]string{}, [][]uint8{}, []bool{}, []complex128{}, []float32{}, []float64{}, []int{}, []int64{},
		[]interface{}{}, []User{}, []map[string]interface{}{}, []map[string]string{}, []models.Money{}, []models.UUID{}, []models.User{}, []string{}, []time.Time{},
		[]uint8{}, []uintptr{}, geo.Point{}, models.Admin{}, models.Amount(0), models.Attrs{}, models.ByRole{}, models.Cart{}, models.Everything{}, models.Hash{}, models.Money{},
		models.On(false), models.Raw{}, models.Role(""), models.Scores{}, models.Single{}, models.Tagged{}, models.User{}, other.User{}, Session{}, User{},
		map[[2]int]string{}, map[float64]string{}, map[int64]string{}, map[int]bool{}, map[int]int{}, map[int]string{}, map[interface{}]interface{}{}, map[interface{}]string{},
		map[string]*User{}, map[string][]string{}, map[string]bool{}, map[string]float64{}, map[string]int{}, map[string]interface{}{}, map[string]map[string]map[string]int{},
		map[string]models.Money{}, map[string]string{}, net.IP{}, http.Header{}, url.Values{}, struct{ X, Y int }{}, time.Month(0), time.Time{},
		map[int]interface{}{}, models.UUID{}, models.Wallet{}, models.Product{}, models.Hidden{}, models.Anon{}, models.Tree{}, models.Flags(0), models.UserID(0), models.Level(0), geo.Region{},
		time.Duration(0), models.Roles{},
	} {
		func() {
			defer func() { recover() }()
			gob.Register(v)
		}()
	}
	dec := func(h string) (m map[interface{}]interface{}, err error) {
		b, _ := hex.DecodeString(h)
		err = gob.NewDecoder(bytes.NewReader(b)).Decode(&m)
		return
	}
	same, others := 0, 0
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		p := strings.Split(lines.Text(), "\t")
		if len(p) != 3 {
			continue
		}
		a, err := dec(p[1])
		if err != nil {
			others++
			fmt.Println("Go's cannot be read:", p[0], err)
			continue
		}
		b, err := dec(p[2])
		if err != nil {
			others++
			fmt.Println("ours cannot be read:", p[0], err)
			continue
		}
		if len(b) != len(a)+3 {
			fmt.Println("other keys:", p[0], len(a), len(b))
		}
		for _, k := range []string{"beside", "beside, at", "beside, map"} {
			if _, ok := b[k]; !ok {
				fmt.Println("missing:", p[0], k)
			}
			delete(b, k)
		}
		if reflect.DeepEqual(a, b) || fmt.Sprintf("%#v", a) == fmt.Sprintf("%#v", b) {
			same++
		} else {
			others++
			fmt.Println("different:", p[0])
		}
	}
	fmt.Println(same, "equal,", others, "others")
}
