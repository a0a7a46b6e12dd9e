%% Certificates for tests, and a tap that sees what goes over a connection.
-module(teleport_test_tls).

-export([authority/0, write/3, write/4, options/1]).
-export([tap/1, seen/2]).

-include_lib("public_key/include/public_key.hrl").

-export_type([authority/0]).

-type authority() :: map().

-spec authority() -> authority().
authority() ->
    Name = "teleport's tests " ++ integer_to_list(erlang:unique_integer([positive])),
    public_key:pkix_test_root_cert(Name, [{digest, sha256}, {key, key()}]).

%% A certificate with these alternative names, its key and the authority, in three files of a folder.
-spec write(file:filename(), authority(), [{atom(), term()}]) -> file:filename().
write(Folder, Authority, Names) ->
    {Today, _} = calendar:universal_time(),
    Days = calendar:date_to_gregorian_days(Today),
    write(Folder, Authority, Names, {calendar:gregorian_days_to_date(Days - 2), calendar:gregorian_days_to_date(Days + 2)}).

-spec write(file:filename(), authority(), [{atom(), term()}], {calendar:date(), calendar:date()}) -> file:filename().
write(Folder, #{cert := Ca} = Authority, Names, Validity) ->
    Extension = #'Extension'{extnID = ?'id-ce-subjectAltName', extnValue = Names, critical = false},
    Peer = [{digest, sha256}, {key, key()}, {extensions, [Extension || Names =/= []]}, {validity, Validity}],
    Chain = #{root => Authority, intermediates => [], peer => Peer},
    #{client_config := Made} = public_key:pkix_test_data(#{server_chain => Chain, client_chain => Chain}),
    {Type, Key} = proplists:get_value(key, Made),
    ok = filelib:ensure_dir(filename:join(Folder, "any")),
    [ok = file:write_file(filename:join(Folder, File), public_key:pem_encode([{Of, Der, not_encrypted}]))
     || {File, Of, Der} <- [{"cert.pem", 'Certificate', signed_anew(proplists:get_value(cert, Made), Authority)},
                            {"key.pem", Type, Key},
                            {"ca.pem", 'Certificate', Ca}]],
    Folder.

%% OTP's test certificates are no longer right for keys of RSA from 28 on, and for those of elliptic curves have parameters that they
%% must not have; from 28 on they can be signed anew without them.
key() ->
    case is_before_28() of
        true -> {rsa, 2048, 65537};
        false -> {namedCurve, secp256r1}
    end.

signed_anew(Der, #{key := Key}) ->
    case is_before_28() of
        true ->
            Der;
        false ->
            #'OTPCertificate'{tbsCertificate = Content} = public_key:pkix_decode_cert(Der, otp),
            Algorithm = setelement(3, Content#'OTPTBSCertificate'.signature, asn1_NOVALUE),
            public_key:pkix_sign(Content#'OTPTBSCertificate'{signature = Algorithm}, Key)
    end.

is_before_28() ->
    list_to_integer(erlang:system_info(otp_release)) < 28.

%% For these files, as `ssl' names them.
-spec options(file:filename()) -> [{atom(), term()}].
options(Folder) ->
    [{Option, filename:join(Folder, File)} || {Option, File} <- [{certfile, "cert.pem"}, {keyfile, "key.pem"}, {cacertfile, "ca.pem"}]].

%% Where to connect to, instead of there: all that passes is kept. Ends with the calling process.
-spec tap(teleport_nif:address()) -> {pid(), teleport_nif:address()}.
tap(Target) ->
    Caller = self(),
    Tap = spawn_link(fun() ->
        {ok, Listen} = gen_tcp:listen(0, [binary, {active, false}, {nodelay, true}, {ip, {127, 0, 0, 1}}]),
        {ok, Address} = inet:sockname(Listen),
        Self = self(),
        _ = spawn_link(fun() -> accept(Listen, Target, Self) end),
        Caller ! {self(), Address},
        keep(#{})
    end),
    receive {Tap, Address} -> {Tap, Address} end.

%% Whether these bytes have passed, and how many bytes in all.
-spec seen(pid(), binary()) -> {boolean(), non_neg_integer()}.
seen(Tap, Marker) ->
    Tap ! {seen, Marker, self()},
    receive {Tap, Seen} -> Seen end.

accept(Listen, Target, Tap) ->
    {ok, Socket} = gen_tcp:accept(Listen),
    Pump = spawn(fun() -> receive go -> pump(Socket, Target, Tap) end end),
    ok = gen_tcp:controlling_process(Socket, Pump),
    Pump ! go,
    accept(Listen, Target, Tap).

pump(Socket, {Ip, Port}, Tap) ->
    {ok, Other} = gen_tcp:connect(Ip, Port, [binary, {active, true}, {nodelay, true}]),
    ok = inet:setopts(Socket, [{active, true}]),
    pass(Socket, Other, Tap).

pass(Socket, Other, Tap) ->
    receive
        {tcp, From, Bytes} ->
            Tap ! {passed, {self(), From}, Bytes},
            To = case From of Socket -> Other; Other -> Socket end,
            _ = gen_tcp:send(To, Bytes),
            pass(Socket, Other, Tap);
        {tcp_closed, _} -> ok;
        {tcp_error, _, _} -> ok
    end.

keep(Kept) ->
    receive
        {passed, Way, Bytes} ->
            keep(Kept#{Way => [Bytes | maps:get(Way, Kept, [])]});
        {seen, Marker, From} ->
            Ways = [iolist_to_binary(lists:reverse(Parts)) || Parts <- maps:values(Kept)],
            IsThere = lists:any(fun(Way) -> binary:match(Way, Marker) =/= nomatch end, Ways),
            From ! {self(), {IsThere, lists:sum([byte_size(Way) || Way <- Ways])}},
            keep(Kept)
    end.
